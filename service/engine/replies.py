"""From a thread that works to the event loops that wait for it. Used by the three threads' owners in this package."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

Reply = tuple[asyncio.AbstractEventLoop, Callable[..., None], tuple[Any, ...]]  # a waiter's loop, what to call there


def deliver(replies: Iterable[Reply]) -> None:
    """Makes each call in its waiter's loop. A loop is woken once, however many calls are for it; one that has closed
    has nobody left to hear, and the thread goes on."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Callable[..., None], tuple[Any, ...]]]] = {}
    for loop, call, arguments in replies:
        by_loop.setdefault(loop, []).append((call, arguments))
    for loop, calls in by_loop.items():
        try:
            loop.call_soon_threadsafe(_make, calls)
        except RuntimeError:
            if not loop.is_closed():
                raise


def _make(calls: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    for call, arguments in calls:
        call(*arguments)


def settle(reply: "asyncio.Future[Any]", answer: Any) -> None:
    """In the waiter's loop; an exception is raised there. No effect on one who has left."""
    if reply.done():
        return
    if isinstance(answer, Exception):
        reply.set_exception(answer)
    else:
        reply.set_result(answer)
