"""Python's collector of cycles stays away while modules are loaded, and while a process ends. It would go through all
that was loaded, again and again, and find nothing."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """What is loaded within stays until the process ends, and is not looked at again, at its end neither: there the
    interpreter would search it for cycles once more, which takes as long as a third of the loading."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
        atexit.unregister(gc.freeze)
        atexit.register(gc.freeze)
