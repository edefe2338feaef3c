"""Keeps one job worker process alive beside the service. Started by the application's lifespan in every API process.

The processes agree by a lock on a file, which the kernel gives up when its holder dies: whoever holds it owns
the worker. The worker ends by itself when its owner's end of the pipe closes.
"""

import fcntl
import logging
import os
import subprocess
import sys
import threading
from io import BufferedRandom
from pathlib import Path

RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)  # wait before each restart in a row
END_SECONDS = 5.0  # for the thread itself
HEALTHY_SECONDS = 60.0  # a worker that lived this long starts the row anew
log = logging.getLogger("vitrine.supervisor")


class Supervisor:
    """A thread that wants the lock, then starts and restarts the worker until stopped."""

    def __init__(self, home: Path, grace_seconds: float) -> None:
        """The worker has so long to keep its last step and give its job back."""
        self._lock_file = home / "worker.lock"
        self._grace_seconds = grace_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitrine-supervisor", daemon=True)

    def start(self) -> None:
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=self._grace_seconds + END_SECONDS)

    def _run(self) -> None:
        with open(self._lock_file, "w+b") as lock:
            while not self._take(lock):
                if self._stop.wait(1.0):
                    return
            failures = 0
            while not self._stop.is_set():
                lived = self._run_worker()
                failures = 0 if lived > HEALTHY_SECONDS else failures + 1
                if not self._stop.is_set():
                    log.warning("the job worker ended; starting it again")
                    self._stop.wait(RESTART_SECONDS[min(failures, len(RESTART_SECONDS)) - 1])

    @staticmethod
    def _take(lock: BufferedRandom) -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _run_worker(self) -> float:
        """One worker from start to end -> seconds it lived, counted in half seconds."""
        command = [sys.executable, "-m", "service.jobs.process", "--beside-service"]
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # see DECISIONS.md
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2], env=environment)
        assert worker.stdin is not None
        lived = 0.0
        while worker.poll() is None and not self._stop.wait(0.5):
            lived += 0.5
        worker.terminate()  # no effect on one that has ended
        try:
            worker.wait(timeout=self._grace_seconds)
        except subprocess.TimeoutExpired:
            log.warning("the job worker is amid a step after %g s; it is ended", self._grace_seconds)
            worker.kill()
            worker.wait()
        worker.stdin.close()
        return lived
