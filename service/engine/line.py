"""Calls of coroutines that wait for a thread of their own. Used by `reading.py` and `looking.py`; the
threads that compute batches, and choose among several queues, are `cores.py`'s.
"""

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from service.engine.replies import Reply, deliver, settle
from service.errors import Unavailable

MAX_RETRY_SECONDS = 60  # that who is refused is told to wait, whatever waits before him
is_bulk: ContextVar[bool] = ContextVar("is_bulk", default=False)  # what the task asks for, see `engine.in_bulk`


@dataclass(eq=False, kw_only=True)
class Call:
    """What a coroutine waits for. Made in its event loop."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    reply: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    bulk: bool = field(default_factory=is_bulk.get)

    def answered(self, answer: Any) -> Reply:
        """An exception is raised where the coroutine waits."""
        return self.loop, settle, (self.reply, answer)


Waiting = TypeVar("Waiting", bound=Call)


class Line(Generic[Waiting]):
    """First come, first served, `at_once` calls at a time (None: all that wait). Its owner sets the bound."""

    def __init__(
        self, name: str, serve: Callable[[list[Waiting]], None], at_once: int | None = None, niceness: int = 0
    ) -> None:
        """`serve` runs in the thread, answers each call and raises nothing; with a `niceness` the system lets all other
        threads go first."""
        self._serve = serve
        self._at_once = at_once
        self._niceness = niceness
        self._waiting: deque[Waiting] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answers what is running, refuses what waits, ends the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout=30)

    def put(self, call: Waiting, check: Callable[[Sequence[Waiting]], None]) -> None:
        """`check` sees who waits and raises if that is too much. Raises Unavailable once the line is stopped."""
        with self._wake:
            if self._stopping:
                raise _stopped()
            check(self._waiting)
            self._waiting.append(call)
            self._wake.notify()

    def withdraw(self, call: Waiting) -> None:
        """Nobody wants its answer any more. No effect once it is being served."""
        with self._wake, contextlib.suppress(ValueError):
            self._waiting.remove(call)

    def put_back(self, calls: Sequence[Waiting]) -> None:
        """By whoever serves: these want another turn, after those that came meanwhile."""
        with self._wake:
            self._waiting.extend(calls)

    def _loop(self) -> None:
        if self._niceness:
            with contextlib.suppress(OSError, AttributeError):  # Linux alone has a priority for one thread
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + self._niceness)
        while True:
            with self._wake:
                while not (self._stopping or self._waiting):
                    self._wake.wait()
                if self._stopping:
                    left = list(self._waiting)
                    self._waiting.clear()
                    break
                taken = [self._waiting.popleft() for _ in range(self._at_once or len(self._waiting))]
            self._serve(taken)
        deliver(call.answered(_stopped()) for call in left)


def _stopped() -> Unavailable:
    return Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)
