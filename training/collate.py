"""Rows to batches in length buckets: little padding, yet a fresh random order every epoch. Used by `trainer.py`."""

import random
from collections.abc import Sequence

POOL_BATCHES = 50  # batches sorted by length together; larger pads less and shuffles less


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row indices of one epoch, grouped in batches; a pure function of its arguments, so that a run can resume.

    Rows are shuffled, cut into pools, sorted by length within each pool, cut into batches, and the batches
    shuffled. Every index comes back exactly once.
    """
    generator = random.Random(f"{seed}:{epoch}")
    order = list(range(len(lengths)))
    generator.shuffle(order)
    pool_size = batch_size * POOL_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=lambda index: lengths[index])
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    generator.shuffle(batches)
    return batches
