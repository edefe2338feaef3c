"""What the cores of a CPU compute apart, each texts of its own. Used by `gradients.py` and `evaluate.py`.

torch gives every operation to all cores, which then wait for each other, hundreds of times in a step; who was held up
holds up all. Texts do not depend on each other, so each lane, a thread with its part of the cores, takes some of them
through the whole model, and the lanes meet where their losses and gradients are added up (benchmarks/results/lanes.md).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch

from model.threads import threads

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_LANES = 8  # each makes a gradient of its own, which is to be added to the others
FEWEST_TOKENS = 128  # of a lane's part of a step: fewer gain nothing


def most_lanes(device: torch.device) -> int:
    """As many as the calling thread has cores; a GPU has one queue."""
    return min(torch.get_num_threads(), MOST_LANES) if device.type == "cpu" else 1


def dealt_out(rows: Sequence[int], lengths: Sequence[int], lanes: int) -> list[list[int]]:
    """Rows of these lengths, in tokens, to at most so many lanes, about as many tokens each: neighbours in length
    together, which pads least. A pure function, so that a resumed run deals as before. Fewer lanes where the tokens are
    few; a single one leaves the rows in their order."""
    tokens = sum(lengths)
    lanes = max(1, min(lanes, len(rows), tokens // FEWEST_TOKENS))
    if lanes == 1:
        return [list(rows)]
    order = sorted(range(len(rows)), key=lambda place: -lengths[place])
    parts: list[list[int]] = [[] for _ in range(lanes)]
    dealt = 0
    for place in order:
        middle = dealt + lengths[place] / 2
        parts[min(lanes - 1, int(middle * lanes / tokens))].append(rows[place])
        dealt += lengths[place]
    return [part for part in parts if part]


class Lanes:
    """Calls side by side, the first of them in the calling thread. Within `with`, the threads stay for the next."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._helpers: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Lanes":
        return self

    def __exit__(self, *_: object) -> None:
        if self._helpers is not None:
            self._helpers.shutdown()
            self._helpers = None

    def run(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """The results, in the order of the calls, of which there are at most as many as lanes. Each call has its part
        of the caller's cores, and the caller's number format and modes. Raises what the first of them raised, when none
        runs any more."""
        assert len(calls) <= self.most
        if len(calls) <= 1:
            return [call() for call in calls]
        each = max(1, torch.get_num_threads() // len(calls))
        if self._helpers is None:
            self._helpers = ThreadPoolExecutor(self.most - 1, "lane")
        modes = _Modes()
        running = [self._helpers.submit(partial(modes.within, each, call)) for call in calls[1:]]
        try:
            with threads(each):
                first = calls[0]()
        finally:
            wait(running)
        return [first, *(future.result() for future in running)]

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """The function's result of each item. A lane takes the next item when it is free."""
        results: list[Any] = [None] * len(items)
        places = iter(range(len(items)))

        def work() -> None:
            for place in places:
                results[place] = function(items[place])

        self.run([work] * min(self.most, len(items)))
        return results


class _Modes:
    """What torch keeps for each thread, as the thread has it in which this is made."""

    def __init__(self) -> None:
        self._gradients = torch.is_grad_enabled()
        self._inference = torch.is_inference_mode_enabled()
        self._autocast = torch.is_autocast_enabled("cpu")
        self._dtype = torch.get_autocast_dtype("cpu")

    @contextmanager
    def _taken_up(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self._inference))
            stack.enter_context(torch.set_grad_enabled(self._gradients))
            # weights in bfloat16 are kept for all threads, with the way back to them of the one that made them
            shared = not self._gradients
            stack.enter_context(torch.autocast("cpu", dtype=self._dtype, enabled=self._autocast, cache_enabled=shared))
            yield

    def within(self, cores: int, call: Callable[[], Result]) -> Result:
        with threads(cores), self._taken_up():
            return call()
