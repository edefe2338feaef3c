"""Looking inside a model: one thread of its own, first come, first served, that the system runs when the other threads
leave time, so that what answers requests is not kept waiting. Owned by `engine.py`.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from model.threads import all_threads, threads
from service.engine.line import MAX_RETRY_SECONDS, Call, Line
from service.engine.replies import deliver
from service.engine.spans import current_trace
from service.engine.timings import add_time
from service.errors import Busy, TimedOut
from service.metrics import Metrics

NICENESS = 10  # above that of the process
Result = TypeVar("Result")
Interrupted = Callable[[], bool]  # whether nobody waits for the answer any more


@dataclass(eq=False)
class _Wanted(Call):
    operation: str
    tokens: int
    compute: Callable[[Interrupted], Any]
    since: float = field(default_factory=time.monotonic)
    began: float = 0.0
    ended: float = 0.0


class Looker:
    """A short line, one look at a time."""

    def __init__(self, metrics: Metrics, max_waiting: int, timeout_seconds: float) -> None:
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._seconds_a_look = 0.0  # of late
        self._line = Line("vitrine-looker", self._serve, at_once=1, niceness=NICENESS)
        self.start, self.stop = self._line.start, self._line.stop

    async def run(self, operation: str, tokens: int, compute: Callable[[Interrupted], Result]) -> Result:
        """What `compute` returns, of a text of so many tokens. Raises Busy when too many wait, TimedOut when it takes
        too long, and what `compute` raised. A caller that is cancelled while it waits takes its turn away; later,
        `compute` can ask what it was given and stop."""
        wanted = _Wanted(operation, tokens, compute)
        self._line.put(wanted, self._check)
        self._note_depth()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                result: Result = await wanted.reply
            add_time(wanted.since, wanted.began, wanted.ended)
            return result
        except TimeoutError:
            raise TimedOut(
                f"no answer within {self._timeout_seconds:g} s; send a shorter text or try again later"
            ) from None
        finally:
            self._line.withdraw(wanted)
            self._note_depth()
            _tell(wanted)

    def _check(self, waiting: Sequence[_Wanted]) -> None:
        if len(waiting) >= self._max_waiting:
            raise Busy(
                f"{len(waiting)} requests wait to look inside a model, which is the limit; try again later",
                retry_after_seconds=min(MAX_RETRY_SECONDS, max(1, math.ceil(len(waiting) * self._seconds_a_look))),
            )

    def _serve(self, taken: list[_Wanted]) -> None:
        self._note_depth()
        deliver([wanted.answered(self._answer(wanted)) for wanted in taken])

    def _answer(self, wanted: _Wanted) -> Any:
        """The result, or the error: the thread lives on."""
        wanted.began = time.monotonic()
        self._metrics.queue_wait(wanted.operation, wanted.began - wanted.since)
        try:
            with threads(all_threads()):
                result = wanted.compute(wanted.reply.done)
        except Exception as error:
            return error
        wanted.ended = time.monotonic()
        seconds = wanted.ended - wanted.began
        self._seconds_a_look = 0.8 * self._seconds_a_look + 0.2 * seconds if self._seconds_a_look else seconds
        self._metrics.batch(wanted.operation, 1, wanted.tokens, seconds)
        return result

    def _note_depth(self) -> None:
        self._metrics.queue("look", len(self._line), len(self._line) / self._max_waiting)


def _tell(wanted: _Wanted) -> None:
    """The spans of a traced call that has ended, by an answer or without."""
    trace, now = current_trace(), time.monotonic()
    if trace is None:
        return
    waited = None if wanted.began else "not_computed"
    trace.add("queue", wanted.since, wanted.began or now, {"lane": "look"}, waited)
    if wanted.began:
        known = {"operation": wanted.operation, "tokens": wanted.tokens}
        failed = None if wanted.ended else "not_answered"
        trace.add("look", wanted.began, wanted.ended or now, known, failed)
