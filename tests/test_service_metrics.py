"""Gauges of killed processes do not count on."""

import os
import subprocess
import sys
from pathlib import Path

from service.metrics import _forget_dead_processes


def test_gauges_of_a_dead_process_are_forgotten_and_of_a_living_one_kept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    dead, alive = (tmp_path / f"gauge_livesum_{process}.db" for process in (ended.pid, os.getpid()))
    counter = tmp_path / f"counter_{ended.pid}.db"
    for file in (dead, alive, counter):
        file.touch()
    _forget_dead_processes(tmp_path)
    assert [dead.exists(), alive.exists(), counter.exists()] == [False, True, True]
