"""How long a request waited and was computed, told from the engine to whoever asked for the request (the gate, in two
headers). A context variable, so that no call in between has to carry it; without one nothing is kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Timings:
    """Of one request; where it computes several times, the sum."""

    queue_seconds: float = 0.0  # until the first of its texts is computed
    inference_seconds: float = 0.0  # from then until the last is
    known: bool = False

    def add(self, since: float, began: float, ended: float) -> None:
        """One computation, by the monotonic clock."""
        self.queue_seconds += began - since
        self.inference_seconds += ended - began
        self.known = True

    def set(self, since: float, began: float, ended: float) -> None:
        """The only computation, which goes on."""
        self.queue_seconds = self.inference_seconds = 0.0
        self.add(since, began, ended)


_timings: ContextVar[Timings | None] = ContextVar("timings", default=None)


@contextmanager
def timed() -> Iterator[Timings]:
    """Within, what this task has computed is added up."""
    timings = Timings()
    token = _timings.set(timings)
    try:
        yield timings
    finally:
        _timings.reset(token)


def current_timings() -> Timings | None:
    return _timings.get()


def add_time(since: float, began: float, ended: float) -> None:
    timings = _timings.get()
    if timings is not None:
        timings.add(since, began, ended)
