"""Looking inside a model: attention, explanations, traces. One thread of its own, first come, first served, that the
system runs when the other threads leave time: what answers requests is not kept waiting. Owned by `engine.py`.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from service.engine.replies import deliver, settle
from service.errors import Busy, TimedOut, Unavailable
from service.metrics import Metrics

NICENESS = 10  # above that of the process
Result = TypeVar("Result")


@dataclass(eq=False)
class _Wanted:
    operation: str
    compute: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    reply: "asyncio.Future[Any]"
    since: float  # time.monotonic()


class Looker:
    """A short queue and the thread that empties it."""

    def __init__(self, metrics: Metrics, max_waiting: int, timeout_seconds: float) -> None:
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[_Wanted] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="vitrine-looker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answers what is running, refuses what waits, ends the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout=30)

    async def run(self, operation: str, compute: Callable[[], Result]) -> Result:
        """What `compute` returns. Raises Busy when too many wait, TimedOut when it takes too long, and what `compute`
        raised. A caller that is cancelled while it waits takes its turn away."""
        loop = asyncio.get_running_loop()
        wanted = _Wanted(operation, compute, loop, loop.create_future(), time.monotonic())
        with self._wake:
            if self._stopping:
                raise Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)
            if len(self._waiting) >= self._max_waiting:
                raise Busy(
                    f"{len(self._waiting)} requests wait to look inside a model, which is the limit; try again later",
                    retry_after_seconds=1,
                )
            self._waiting.append(wanted)
            self._metrics.queue_depth("look", len(self._waiting))
            self._wake.notify()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                result: Result = await wanted.reply
                return result
        except TimeoutError:
            raise TimedOut(
                f"no answer within {self._timeout_seconds:g} s; send a shorter text or try again later"
            ) from None
        finally:
            self._leave(wanted)

    def _leave(self, wanted: _Wanted) -> None:
        with self._wake, contextlib.suppress(ValueError):  # it had its turn
            self._waiting.remove(wanted)
            self._metrics.queue_depth("look", len(self._waiting))

    def _loop(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + NICENESS)  # Linux: of one thread
        while True:
            with self._wake:
                while not (self._stopping or self._waiting):
                    self._wake.wait()
                if self._stopping:
                    left = list(self._waiting)
                    self._waiting.clear()
                    break
                wanted = self._waiting.popleft()
                self._metrics.queue_depth("look", len(self._waiting))
            deliver([(wanted.loop, settle, (wanted.reply, self._answer(wanted)))])
        stopping = Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)
        deliver((wanted.loop, settle, (wanted.reply, stopping)) for wanted in left)

    def _answer(self, wanted: _Wanted) -> Any:
        """The result, or the error: the thread lives on."""
        began = time.monotonic()
        self._metrics.queue_wait(wanted.operation, began - wanted.since)
        try:
            result = wanted.compute()
        except Exception as error:
            return error
        self._metrics.looked(wanted.operation, time.monotonic() - began)
        return result
