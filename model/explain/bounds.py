"""The best and the worst that any ranking of a text's tokens could reach. Used by `faithfulness.py`.

How much a model can lose at all differs from text to text, so that a bare AOPC says little; between its bounds it does
(Edin et al. 2025, "Normalized AOPC"). Exact bounds need every order of the tokens; here a beam search looks for them.
Shapes: P states of the beam, T tokens, J children of a state.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-6  # of an answer, from one batch to another
Gain = Callable[[Tensor], Tensor]  # sets of tokens bool [P, T] -> what each set gives [P]


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest AOPC that was found for one text: the true ones may lie a little further out."""

    lower: float
    upper: float

    def normalise(self, value: float) -> float | None:
        """0 at the lower bound, 1 at the upper; None when no ranking makes a difference beyond rounding."""
        room = self.upper - self.lower
        return (value - self.lower) / room if room > ROUNDING else None


def bounds(gain: Gain, free: Tensor, counts: Sequence[int], width: int, seen: Tensor) -> Bounds:
    """Of the mean gain over the first `counts` tokens of a ranking. free bool [T]: the tokens that are ranked; `seen`:
    mean gains of rankings already tried, which lie within the bounds by definition."""
    upper = greatest_mean(gain, free, counts, width)
    lower = -greatest_mean(lambda sets: -gain(sets), free, counts, width)
    return Bounds(min(lower, float(seen.min())), max(upper, float(seen.max())))


def greatest_mean(gain: Gain, free: Tensor, counts: Sequence[int], width: int) -> float:
    """The greatest mean gain over the sets of `counts` tokens that a ranking begins with, by a beam search.

    From one count to the next each kept set grows by the tokens that alone would add most to it; its `width` children
    differ in the last of them. The `width` sets with the greatest sum so far are kept. Width 1 is greedy; every ranking
    is tried where counts rise by one and `width` holds all sets. Costs about width x T sets a count.
    """
    sets, sums = torch.zeros(1, len(free), dtype=torch.bool), torch.zeros(1, dtype=torch.float64)
    size = 0
    for count, times in sorted(Counter(counts).items()):
        children, parents = _children(gain, sets, free, count - size, width)
        totals = sums[parents] + times * gain(children)
        sets, places = torch.unique(children, dim=0, return_inverse=True)  # one set may have several parents
        sums = torch.full((len(sets),), float("-inf"), dtype=torch.float64).scatter_reduce(0, places, totals, "amax")
        sums, kept = sums.topk(min(width, len(sums)))
        sets, size = sets[kept], count
    return float(sums.max()) / len(counts)


def _children(gain: Gain, sets: Tensor, free: Tensor, adding: int, width: int) -> tuple[Tensor, Tensor]:
    """sets bool [P, T] -> sets that have `adding` tokens more, bool [P * J, T], and each one's parent [P * J]."""
    open_ = free & ~sets  # [P, T]
    parents, tokens = open_.nonzero(as_tuple=True)
    singles = sets[parents]
    singles[torch.arange(len(tokens)), tokens] = True
    alone = torch.full(sets.shape, float("-inf"), dtype=torch.float64)
    alone[parents, tokens] = gain(singles)
    order = alone.argsort(dim=1, descending=True, stable=True)  # [P, T]
    choices = min(width, int(open_[0].sum()) - adding + 1)  # J
    children = sets[:, None].repeat(1, choices, 1)  # [P, J, T]
    children.scatter_(2, order[:, None, : adding - 1].expand(-1, choices, -1), True)
    children.scatter_(2, order[:, adding - 1 : adding - 1 + choices, None], True)
    return children.flatten(0, 1), torch.arange(len(sets)).repeat_interleave(choices)
