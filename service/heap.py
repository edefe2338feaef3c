"""The C library's heap: memory that was freed goes back to the system. Used by `registry.py` and `app.py`."""

import asyncio
import ctypes
import functools
from collections.abc import Callable

SECONDS_BETWEEN = 10.0


def give_back() -> None:
    """Returns what is free in glibc's heap to the system.

    Each thread takes memory from an arena of its own, and glibc hands back only what is free at an arena's very end
    (malloc_trim(3)): models that come and go on changing threads would leave ever more of it behind. Does nothing with
    other C libraries. Takes milliseconds, and no lock of Python's.
    """
    _trim()(0)


async def give_back_for_good() -> None:
    """The same every few seconds until it is cancelled. Without it batches of changing sizes leave ever more free
    pieces between those in use."""
    while True:
        await asyncio.sleep(SECONDS_BETWEEN)
        await asyncio.to_thread(give_back)


@functools.cache
def _trim() -> Callable[[int], object]:
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)
