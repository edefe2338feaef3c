"""Small work in a thread, beside whatever else a process does. Used by `errands.py`, `worker.py` and `bulk.py`."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

log = logging.getLogger("vitrine.worker")


@contextlib.contextmanager
def repeating(name: str, seconds: float, work: Callable[[], bool | None]) -> Iterator[None]:
    """Within, the work is done again and again: at once while there is more of it, else after some seconds. What it
    raises is logged, and the next turn tries again."""
    done = threading.Event()

    def run() -> None:
        wait = seconds
        while not done.wait(wait):
            try:
                wait = 0.0 if work() else seconds
            except Exception:  # a busy database
                log.exception("%s failed", name)
                wait = seconds

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
