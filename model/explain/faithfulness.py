"""How far an attribution tells what the model really uses: ERASER's two measures (DeYoung et al. 2020), against chance.

Comprehensiveness: what the answer loses without the tokens that score highest. Sufficiency: what it loses when they
alone are left. Called wherever an attribution is shown, so that none goes out without its figures.
Shapes: Q rankings, K shares, M masks, T tokens, F tokens that are not special, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from model.explain.bounds import ROUNDING, Bounds, bounds
from model.explain.masking import MAX_TOKENS, MaskedText
from model.explain.target import Target
from model.explain.text_input import check_target
from model.heads import TextModel
from model.tokenizer import Encoding

PERCENTS = (1, 5, 10, 20, 50)  # of the tokens that are not special, rounded up: ERASER's bins
Measure = Callable[[Tensor], Tensor]  # masks bool [M, T], True = taken away -> the answer [M], float64
Verdict = Literal["better than random", "near random", "worse than random"]


@dataclass(frozen=True)
class Trial:
    """What an attribution is held against. Raises ValueError with value, limit and remedy."""

    num_random: int = 20  # random rankings of the control
    seed: int = 0  # the same seed gives the same rankings
    beam_width: int = 1  # of the search for bounds, some 20 x T forward passes at 1 (greedy); 0 leaves them out
    max_tokens: int = MAX_TOKENS  # of one forward pass

    def __post_init__(self) -> None:
        if self.num_random < 2:
            raise ValueError(f"num_random is {self.num_random}; a deviation needs at least 2")
        if self.beam_width < 0:
            raise ValueError(f"beam_width is {self.beam_width}; choose 0 for no bounds, or a width")


@dataclass(frozen=True)
class Spread:
    """Of the random rankings' AOPCs."""

    mean: float
    deviation: float  # standard deviation of a sample: how far one random ranking lies from the mean


@dataclass(frozen=True)
class Erasure:
    """Comprehensiveness or sufficiency of one ranking: losses of the answer, above zero where it fell."""

    at: tuple[float, ...]  # the loss at each of PERCENTS
    aopc: float  # their mean, the area over the perturbation curve
    random: Spread  # the same of random rankings
    bounds: Bounds | None  # the same of the worst and the best ranking found; None: not searched

    @property
    def normalised(self) -> float | None:
        """AOPC between its bounds, from 0 to 1 (Edin et al. 2025); None without them, or where all rankings tie."""
        return None if self.bounds is None else self.bounds.normalise(self.aopc)


@dataclass(frozen=True)
class Faithfulness:
    """Of one attribution of one text."""

    answer: float  # for the whole text: a probability; of a regression model its number
    comprehensiveness: Erasure  # the greater, the better
    sufficiency: Erasure  # the smaller, the better; normalised, too
    verdict: Verdict  # on comprehensiveness: near random within 2 standard deviations of a random ranking's


def faithfulness(
    model: TextModel,
    encoding: Encoding,
    target: Target,
    scores: Tensor,
    replacement: int,
    trial: Trial | None = None,
) -> Faithfulness:
    """scores [T] of an attribution of this text and target; the highest come first, of equal ones the earlier.

    Tokens are taken away as in `occlusion.py`; special tokens always stay and are not ranked. The random control takes
    the same path. The verdict goes by the spread of one random ranking, not of their mean: the question is whether
    chance could have drawn this one. One that it did draw is called better or worse about one time in fifteen.
    """
    return faithfulness_of_each(model, encoding, target, [scores], replacement, trial)[0]


def faithfulness_of_each(
    model: TextModel,
    encoding: Encoding,
    target: Target,
    scores: Sequence[Tensor],
    replacement: int,
    trial: Trial | None = None,
) -> list[Faithfulness]:
    """The same of several attributions of one text, which share the random control and the search for bounds: those
    depend on the text alone, and take most of the forward passes."""
    trial = trial or Trial()
    masked = MaskedText(model, encoding, replacement, trial.max_tokens)
    check_target(model.config, target)
    for own in scores:
        if own.shape != (len(encoding.ids),) or not bool(own.isfinite().all()):
            raise ValueError(
                f"scores have shape {list(own.shape)}; give one finite number for each of {len(encoding.ids)} tokens"
            )
    return judge(lambda masks: answer(model, target, masked.logits(masks)), masked.free, scores, trial)


def answer(model: TextModel, target: Target, logits: Tensor) -> Tensor:
    """logits [M, C] -> [M] float64: the label's probability (by softmax, or sigmoid where labels are independent), its
    share of the two when it stands against another, or the number of a regression model."""
    logits = logits.double()
    if model.config.task == "regression":
        return target.value(logits)
    if model.config.task == "multi_label" or target.against is not None:
        return torch.sigmoid(target.value(logits))
    return torch.softmax(logits, dim=-1)[:, target.label]


def judge(measure: Measure, free: Tensor, scores: Sequence[Tensor], trial: Trial) -> list[Faithfulness]:
    """The same for any answer that can be measured: free [F], places of the tokens that are ranked; scores [T] each."""
    own = [free[each[free].argsort(descending=True, stable=True)] for each in scores]
    rankings = torch.cat([torch.stack(own), random_rankings(free, trial)])  # [Q, F]
    counts = [-(-len(free) * percent // 100) for percent in PERCENTS]
    ranked = torch.zeros(len(scores[0]), dtype=torch.bool)
    ranked[free] = True
    top = torch.zeros(len(rankings), len(counts), len(ranked), dtype=torch.bool)  # [Q, K, T]
    for index, count in enumerate(counts):
        top[:, index].scatter_(1, rankings[:, :count], True)
    sides = torch.stack([top, ranked & ~top])  # without the top tokens; without the others
    answers = measure(torch.cat([torch.zeros_like(ranked)[None], sides.flatten(0, 2)]))
    whole = answers[0]
    without, alone = (whole - answers[1:]).view(2, len(rankings), len(counts))
    gains = (lambda sets: whole - measure(sets), lambda sets: whole - measure(ranked & ~sets))
    search = partial(_erasures, own=len(own), free=ranked, counts=counts, width=trial.beam_width)
    return [
        Faithfulness(float(whole), comprehensiveness, sufficiency, verdict(comprehensiveness))
        for comprehensiveness, sufficiency in zip(search(without, gains[0]), search(alone, gains[1]), strict=True)
    ]


def random_rankings(free: Tensor, trial: Trial) -> Tensor:
    """[num_random, F]: orders of the same tokens."""
    generator = torch.Generator().manual_seed(trial.seed)
    return torch.stack([free[torch.randperm(len(free), generator=generator)] for _ in range(trial.num_random)])


def _erasures(losses: Tensor, gain: Measure, own: int, free: Tensor, counts: list[int], width: int) -> list[Erasure]:
    """losses [Q, K] of the `own` rankings in question, then of the random ones."""
    means = losses.mean(dim=1)  # [Q]
    found = bounds(gain, free, counts, width, means) if width else None
    random = Spread(float(means[own:].mean()), float(means[own:].std()))
    return [Erasure(tuple(losses[each].tolist()), float(means[each]), random, found) for each in range(own)]


def verdict(comprehensiveness: Erasure) -> Verdict:
    ahead = comprehensiveness.aopc - comprehensiveness.random.mean
    if abs(ahead) <= 2 * comprehensiveness.random.deviation + ROUNDING:
        return "near random"
    return "better than random" if ahead > 0 else "worse than random"
