"""What a start of the service loads: seconds for who starts it, in each of its processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

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
