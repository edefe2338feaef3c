"""The contract with OpenAI's own client, the present version and the one before, unmodified, on a real service."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Rows, Service, write_jsonl

pytestmark = pytest.mark.slow
OLDER = Path(sys.prefix) / "openai-2"  # put there by `make test`


@pytest.mark.timeout(700)
@pytest.mark.parametrize("version", ["3", "2"])
def test_the_unmodified_client_drives_everything(
    closed_service: tuple[Service, dict[str, str]], movie_rows: Rows, tmp_path: Path, version: str
) -> None:
    service, keys = closed_service
    rows = write_jsonl(tmp_path / "rows.jsonl", movie_rows[:120])
    owner = {"3": "ann", "2": "bob"}[version]
    environment = dict(os.environ)
    if version == "2":
        assert OLDER.is_dir(), "run `make test`, which puts the older client there"
        environment["PYTHONPATH"] = str(OLDER)
    command = [sys.executable, "-I" if version == "3" else "-s", str(ROOT / "tests" / "contract.py")]
    done = subprocess.run(
        [*command, service.url, keys[owner], keys[f"{owner} asks"], keys["hasty"], str(rows)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert re.search(rf"^openai {version}\.\S+: \d+ checks$", done.stdout, re.MULTILINE), done.stdout[-500:]
