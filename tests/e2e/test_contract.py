"""The contract with OpenAI's own client, the present version and the one before, unmodified, on a real service."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Rows, Service, new_home, write_jsonl

pytestmark = pytest.mark.slow
OLDER = Path(sys.prefix) / "openai-2"  # put there by `make test`


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[tuple[Service, list[str]]]:
    """A service with keys, made on the command line before its start."""
    home = new_home(tmp_path_factory.mktemp("contract"), cache)
    service = Service(home, VITRINE_REQUESTS_PER_MINUTE="3000", VITRINE_MAX_FILE_BYTES=str(2**21))
    keys = []
    for owner, scopes in (("ann", "infer,train"), ("ann", "infer"), ("hasty", "infer")):
        command = [sys.executable, "-m", "service.cli", "keys", "create", "--owner", owner, "--scopes", scopes]
        done = subprocess.run(command, cwd=ROOT, env=service.environment, capture_output=True, text=True, check=True)
        keys += re.findall(r"^vt-\S+$", done.stdout, re.MULTILINE)
    yield service.start(), keys
    service.stop()


@pytest.mark.timeout(700)
@pytest.mark.parametrize("version", ["3", "2"])
def test_the_unmodified_client_drives_everything(
    closed: tuple[Service, list[str]], movie_rows: Rows, tmp_path: Path, version: str
) -> None:
    service, keys = closed
    rows = write_jsonl(tmp_path / "rows.jsonl", movie_rows[:400])
    environment = dict(os.environ)
    if version == "2":
        assert OLDER.is_dir(), "run `make test`, which puts the older client there"
        environment["PYTHONPATH"] = str(OLDER)
    command = [sys.executable, "-I" if version == "3" else "-s", str(ROOT / "tests" / "contract.py")]
    done = subprocess.run(
        [*command, service.url, *keys, str(rows)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert re.search(rf"^openai {version}\.\S+: \d+ checks$", done.stdout, re.MULTILINE), done.stdout[-500:]
