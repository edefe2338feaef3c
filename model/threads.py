"""How many cores one thread of the program computes on. Used by `lora.py` and the engine.

torch keeps the number for each thread, and gives a new one what any other has set last; so whoever computes beside
others sets its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@cache
def all_threads() -> int:
    """As many as torch took when this was first asked: the process's cores, or what OMP_NUM_THREADS says."""
    return torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, products of the calling thread take `count` threads of the CPU, afterwards as many as before."""
    all_threads()  # before the number is anything else
    before = torch.get_num_threads()  # asked first: a thread that has none takes the others' at its first product
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
