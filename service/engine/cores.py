"""The threads that compute: on a CPU one for each core, on a GPU one alone. Owned by the engine.

Cores that share one product wait for each other after every operation, hundreds of times in a forward pass, and to wake
one that sleeps may take longer than the operation. Texts do not depend on each other, so each core takes texts of its
own from the queue whenever it is free, and never waits for another: while some compute, others answer what is done and
read what comes next (DECISIONS.md).
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from model.threads import all_threads, threads
from model.tokenizer import Encoding
from service.engine.runner import LoadedModel, Operation, run

MOST_CORES = 16  # that take work of their own; of more each takes several, or they would wait for Python
FEW_TOKENS = 32  # not worth a core of their own
ENOUGH_TOKENS = 256  # of one core's pass: fewer take more time a token (91% of the best rate in float32)
MOST_TOKENS = 512  # of one core's pass: more are not faster, and what the C library gets back it returns to the system
TOKENS_A_THREAD = {"int8": 256}  # by number format: fewer are faster on one thread than on another more
FEWEST_TOKENS_A_THREAD = 48

Work = Callable[[], None]


class Cores:
    """Threads that ask for work until they are stopped."""

    def __init__(self, count: int, lock: threading.Lock, take: Callable[[int], Work | None]) -> None:
        """`take` runs under the lock, is told how many others have nothing to do, and gives None when there is nothing
        to do. Work raises nothing."""
        self.count = count
        self._lock = lock
        self._take = take
        self._idle: list[threading.Condition] = []  # the last to become idle is the first to be woken: it is warm
        self._stopping = False
        names = [f"vitrine-device-{number}" for number in range(count)]
        self._threads = [threading.Thread(target=self._loop, name=name, daemon=True) for name in names]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return not self._stopping and all(thread.is_alive() for thread in self._threads)

    def wake(self) -> None:
        """Under the lock: there is work. Who takes of it and leaves more wakes the next."""
        if self._idle:
            self._idle.pop().notify()

    def stop(self, seconds: float) -> None:
        """Returns when what is running is done, or so many seconds later."""
        with self._lock:
            self._stopping = True
            while self._idle:
                self.wake()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))

    def _loop(self) -> None:
        mine = threading.Condition(self._lock)
        while True:
            work = None
            with self._lock:
                while not self._stopping and (work := self._take(len(self._idle))) is None:
                    self._idle.append(mine)
                    mine.wait()
            if work is None:
                return
            work()


def cores_on(device: torch.device) -> int:
    """How many threads compute at a time on this device."""
    return min(MOST_CORES, all_threads()) if device.type == "cpu" else 1


def share_of(waiting_tokens: int, cores: int, idle: int) -> int:
    """How many of the tokens that wait one core takes, when so many others have nothing to do: an even share with
    those. Where all others compute, an even share with all, so that they end at about the same time (guided
    self-scheduling, Polychronopoulos and Kuck 1987), but enough to be fast."""
    if idle:
        return min(MOST_TOKENS, max(FEW_TOKENS, math.ceil(waiting_tokens / (1 + idle))))
    return min(MOST_TOKENS, max(ENOUGH_TOKENS, math.ceil(waiting_tokens / cores)))


def compute(
    models: Sequence[LoadedModel], operation: Operation, encodings: Sequence[Encoding], most_threads: int
) -> list[Any]:
    """As `runner.run`, on as many threads of a CPU as pay, at most so many."""
    if models[0].bank.device.type != "cpu":
        return run(models, operation, encodings)
    tokens = sum(len(encoding.ids) for encoding in encodings)
    wanted = 1 + tokens // TOKENS_A_THREAD.get(models[0].dtype, FEWEST_TOKENS_A_THREAD)
    with threads(min(wanted, most_threads)):
        return run(models, operation, encodings)
