"""What a start of the service loads: seconds for who starts it, in each of its processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port

TRAINING = ("torch._dynamo", "sympy", "scipy", "sklearn", "datasets", "pandas", "transformers")


@pytest.mark.parametrize(
    ("process", "unwanted"),
    [
        ("service.app", TRAINING),  # answers requests
        ("service.main", ("torch", *TRAINING)),  # BentoML's own, which starts those
        ("service.command", ("torch", *TRAINING)),  # `vitrine serve`, which becomes BentoML's
    ],
)
def test_no_process_of_a_start_loads_what_it_does_not_need(
    tmp_path: Path, process: str, unwanted: tuple[str, ...]
) -> None:
    code = f"import sys, {process}; print([name for name in {unwanted} if name in sys.modules])"
    environment = os.environ | {"VITRINE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "[]\n", done.stderr


def start(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.command", "serve", "--port", str(free_port())]
    environment = os.environ | {"VITRINE_HOME": str(tmp_path)} | settings
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


def test_wrong_settings_are_named_a_line_each_without_their_values(tmp_path: Path) -> None:
    done = start(tmp_path, VITRINE_DEVICE="tpu", VITRINE_API_WORKERS="0", VITRINE_DATABASE="my:secret")
    assert done.returncode == 1
    assert sorted(line.split(": ")[1] for line in done.stderr.splitlines()) == [
        "VITRINE_API_WORKERS", "VITRINE_DATABASE", "VITRINE_DEVICE",
    ]  # fmt: skip
    assert "'cpu' or 'cuda'" in done.stderr
    assert "secret" not in done.stderr + done.stdout


def test_settings_that_do_not_fit_this_host_end_the_start(tmp_path: Path) -> None:
    """BentoML would start the process that refuses them again and again."""
    done = start(tmp_path, VITRINE_DTYPE="int8", VITRINE_DEVICE="cuda")
    assert "int8 needs a CPU with AVX2" in done.stderr + done.stdout
    assert done.returncode == 1
