"""The way out: from SIGTERM on, what was accepted is answered, what comes is refused, and only then the server stops.

BentoML's own process passes the signal on to each API process and waits for it. There uvicorn would close its ears at
once while the port stays open, so that new requests would hang until they are cut off. Hence the signal begins the
drain, and the handler that was there before runs after it. Used by `app.py` and `gate.py`.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from service.errors import Unavailable

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STILL_ANSWERED = ("/livez", "/metrics")
POLL_SECONDS = 0.05
LAST_WORDS_SECONDS = 0.5  # for answers that are made when the time is over


class Drain:
    """Of one application. In its event loop."""

    def __init__(self) -> None:
        self.begun = False
        self.over = False  # the time is over: what is left is cut off
        self._requests: set[asyncio.Task[object]] = set()

    @contextlib.contextmanager
    def accepted(self, path: str) -> Iterator[None]:
        """Within, the task answers a request. Raises Unavailable when that is not accepted any more."""
        if self.begun and path not in STILL_ANSWERED:
            raise stopping()
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            yield
        finally:
            self._requests.discard(task)

    async def answered(self) -> None:
        """Until nothing is left of what was accepted."""
        while self._requests:
            await asyncio.sleep(POLL_SECONDS)

    async def cut(self) -> None:
        """Ends what is left: a 503 for whom nothing was sent yet."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self.answered()
        self.over = True
        for task in self._requests:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self.answered()


def stopping() -> Unavailable:
    return Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)


@contextlib.contextmanager
def before_exit(leave: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Within, the first signal to end calls `leave` in the event loop, with what ends the server when it is time. A
    second SIGINT, from somebody who will not wait, does so at once."""
    if threading.current_thread() is not threading.main_thread():  # an application within another program
        yield
        return
    loop = asyncio.get_running_loop()
    former = {which: signal.getsignal(which) for which in SIGNALS}
    seen: list[int] = []

    def end(which: int) -> None:
        handler = former[signal.Signals(which)]
        if callable(handler):
            handler(which, None)
        else:
            signal.signal(which, handler)
            signal.raise_signal(which)

    def handle(which: int, _: object) -> None:
        impatient = which == signal.SIGINT and which in seen
        seen.append(which)
        if impatient:
            end(which)
        elif len(seen) == 1:
            loop.call_soon_threadsafe(leave, lambda: end(which))

    for which in SIGNALS:
        signal.signal(which, handle)
    try:
        yield
    finally:
        for which, handler in former.items():
            signal.signal(which, handler)
