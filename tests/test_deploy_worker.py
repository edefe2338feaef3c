"""A job worker as a container starts it: nobody at its standard input."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, wait_for


def test_a_worker_of_its_own_runs_without_standard_input_until_it_is_told_to_end(tmp_path: Path) -> None:
    environment = os.environ | {"VITRINE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "service", "worker"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL) as worker:
        try:
            wait_for(lambda: (tmp_path / "vitrine.sqlite").is_file() or worker.poll() is not None, 60)
            assert worker.poll() is None
        finally:
            worker.terminate()
    assert worker.returncode == 0, "told to end, it ends well"
