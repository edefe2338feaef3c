"""A worker's hold on one job: kept up by heartbeats, asked for after each step. Used by `worker.py`; files
are locked so in `bulk.py` too.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from service.ids import new_id
from service.jobs.store import JobStore

ASK_SECONDS = 0.05  # a step is seldom shorter
LOCK_POLL_SECONDS = 0.2
Standing = Literal["held", "lost", "outranked", "leaving"]
log = logging.getLogger("vitrine.lease")


class Lease:
    """Of `worker` on `job_id`."""

    def __init__(
        self, store: JobStore, job_id: str, worker: str, seconds: float, priority: int,
        leaving: threading.Event | None = None,
    ) -> None:  # fmt: skip
        """`leaving` is set when the worker must stop."""
        self.standing: Standing = "held"
        self._store = store
        self._job_id, self._worker = job_id, worker
        self._seconds = seconds
        self._priority = priority
        self._leaving = leaving or threading.Event()
        self._asked_at = 0.0

    def beat(self) -> None:
        """Says that the worker lives."""
        if not self._store.heartbeat(self._job_id, self._worker, self._seconds):
            self.standing = "lost"

    def over(self) -> bool:
        """Whether the worker must let the job go: it was cancelled, paused or taken over, a job of higher priority
        waits, or the worker must stop. A database that does not answer takes no job away."""
        now = time.monotonic()
        if self.standing == "held" and self._leaving.is_set():
            self.standing = "leaving"
        if self.standing == "held" and now - self._asked_at >= ASK_SECONDS:
            self._asked_at = now
            try:
                if not self._store.holds(self._job_id, self._worker):
                    self.standing = "lost"
                elif self._store.outranked(self._priority):
                    self.standing = "outranked"
            except SQLAlchemyError:
                log.exception("the store did not answer; job %s goes on", self._job_id)
        return self.standing != "held"

    def let_go(self) -> None:
        """Gives the job back to the queue, unhurt, if it is still this worker's and not wanted for itself."""
        reasons = {
            "outranked": "Paused for a job of higher priority",
            "leaving": "The worker was stopped; the job goes on after its last step when there is one again",
        }
        reason = reasons.get(self.standing)
        if reason is not None and self._store.requeue(self._job_id, self._worker):
            self._store.add_event(self._job_id, f"{self.standing}:{new_id('turn')}", reason)

    @contextmanager
    def alone(self, folder: Path) -> Iterator[bool]:
        """Within, no other process of this host works in the job's folder -> False when the hold was lost while another
        one did: a worker that was taken over may still be amid a step. The kernel frees what a dead one held."""
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "wb") as file:
            while not locked(file.fileno()):
                if self.over():
                    yield False
                    return
                time.sleep(LOCK_POLL_SECONDS)
            yield True


def locked(descriptor: int) -> bool:
    """Whether this open file could be had alone; until it is closed it is."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
