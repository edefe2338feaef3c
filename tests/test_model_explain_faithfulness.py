"""Faithfulness: against each masked text alone, against chance, between its bounds."""

import itertools
import math
import statistics
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.batch import pad
from model.explain.bounds import greatest_mean
from model.explain.faithfulness import PERCENTS, Faithfulness, Trial, faithfulness, judge, random_rankings
from model.explain.gradient import gradient_input
from model.explain.target import Target
from model.heads import TextModel
from model.tokenizer import Encoding
from tests.explained import CLOSE, LABELS, MASK, bodies, classifiers, framed, smooth, targets, without
from tests.small import few, random_model, small_config


def deciding(num_outputs: int = 2, task: str = "classification") -> TextModel:
    """Its layers pass vectors on as they are: token 9 alone speaks for the first label, token 8 a little, 7 against it."""
    fields = {"norm_first": True, "task": task, "labels": LABELS[:num_outputs] if task != "regression" else ()}
    model = random_model(small_config("encoder", num_heads=1, pooling="mean", **fields))
    for parameter in model.parameters():
        parameter.zero_()
    model.body.norm.weight.fill_(1.0)
    plain, decisive = torch.tensor([1.0, -1.0] * 8), torch.tensor([1.0, 1.0, -1.0, -1.0] * 4)
    model.body.embeddings.token.weight[:] = plain
    model.body.embeddings.token.weight[9] = decisive
    model.body.embeddings.token.weight[8] = 0.2 * decisive + plain
    model.body.embeddings.token.weight[7] = -0.5 * decisive + plain
    model.classifier.linear.weight[0] = decisive / 2
    return model


def test_the_perfect_ranking_is_the_most_comprehensive_and_its_reverse_the_least() -> None:
    model, encoding = deciding(), framed([5, 9, 8, 7])
    found: dict[tuple[int, ...], Faithfulness] = {}
    for order in itertools.permutations(range(1, 5)):
        scores = torch.full((6,), 99.0)  # those of special tokens are not looked at
        scores[list(order)] = torch.arange(4.0, 0.0, -1.0)
        found[order] = faithfulness(model, encoding, Target(0), scores, MASK, Trial(beam_width=20))
    perfect = (2, 3, 1, 4)  # 9, then 8, then 5, which says nothing, then 7, which speaks against
    best, worst = found[perfect], found[perfect[::-1]]
    assert best.comprehensiveness.aopc == max(each.comprehensiveness.aopc for each in found.values())
    assert worst.comprehensiveness.aopc == min(each.comprehensiveness.aopc for each in found.values())
    assert best.sufficiency.aopc == min(each.sufficiency.aopc for each in found.values())
    assert worst.sufficiency.aopc == max(each.sufficiency.aopc for each in found.values())
    assert [best.comprehensiveness.normalised, worst.sufficiency.normalised] == pytest.approx([1.0, 1.0])
    assert [worst.comprehensiveness.normalised, best.sufficiency.normalised] == pytest.approx([0.0, 0.0])


def literal(model: TextModel, encoding: Encoding, order: list[int], probability: Callable[[Encoding], float]) -> object:
    """ERASER's two curves of one ranking, each text by itself."""
    own = {place for place, special in enumerate(encoding.special) if not special}
    counts = [max(1, math.ceil(len(own) * percent / 100)) for percent in PERCENTS]
    whole = probability(encoding)
    tops = [set(order[:count]) for count in counts]
    return (
        [whole - probability(without(encoding, top)) for top in tops],
        [whole - probability(without(encoding, own - top)) for top in tops],
    )


PROBABILITIES: dict[str, tuple[str, Target, Callable[[Tensor], Tensor]]] = {
    "softmax": ("classification", Target(1), lambda logits: logits.softmax(-1)[1]),
    "share of two": ("classification", Target(1, against=2), lambda logits: logits[1:].softmax(-1)[0]),
    "sigmoid": ("multi_label", Target(2), lambda logits: logits.sigmoid()[2]),
    "number": ("regression", Target(0), lambda logits: logits[0]),
}


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("max_tokens", [1, 50, 4096])
def test_both_measures_and_their_control_equal_each_text_alone(name: str, max_tokens: int) -> None:
    task, target, probability = PROBABILITIES[name]
    model = smooth(task=task, labels=() if task == "regression" else LABELS, seed=3)
    encoding = framed(list(range(5, 17)))
    scores = torch.randn(14, generator=torch.Generator().manual_seed(1))
    scores[3] = scores[7]  # of equal ones the earlier comes first
    trial = Trial(num_random=6, seed=5, beam_width=0, max_tokens=max_tokens)
    found = faithfulness(model, encoding, target, scores, MASK, trial)

    def alone(text: Encoding) -> float:
        return float(probability(model.classify(pad([text], 0))[0]))

    order = sorted(range(1, 13), key=lambda place: (-float(scores[place]), place))
    rankings = random_rankings(torch.arange(1, 13), trial).tolist()
    assert len({tuple(ranking) for ranking in rankings}) == 6
    assert found.answer == pytest.approx(alone(encoding), abs=CLOSE)
    controls = [literal(model, encoding, ranking, alone) for ranking in rankings]
    for side, part in enumerate((found.comprehensiveness, found.sufficiency)):
        expected = literal(model, encoding, order, alone)[side]
        assert part.at == pytest.approx(expected, abs=CLOSE)
        assert part.aopc == pytest.approx(statistics.fmean(expected), abs=CLOSE)
        means = [statistics.fmean(control[side]) for control in controls]
        assert part.random.mean == pytest.approx(statistics.fmean(means), abs=CLOSE)
        assert part.random.deviation == pytest.approx(statistics.stdev(means), abs=CLOSE)
        assert part.bounds is part.normalised is None


def test_the_control_is_the_mean_over_all_orders_when_there_are_many() -> None:
    model, encoding = deciding(), framed([5, 9, 8, 7])
    all_orders = [list(order) for order in itertools.permutations(range(1, 5))]

    def alone(text: Encoding) -> float:
        return float(model.classify(pad([text], 0))[0].softmax(-1)[0])

    means = [statistics.fmean(literal(model, encoding, order, alone)[0]) for order in all_orders]
    found = faithfulness(model, encoding, Target(0), torch.zeros(6), MASK, Trial(num_random=4000, beam_width=0))
    assert found.comprehensiveness.random.mean == pytest.approx(statistics.fmean(means), abs=0.01)
    assert found.comprehensiveness.random.deviation == pytest.approx(statistics.pstdev(means), abs=0.01)


def test_the_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    model, encoding, scores = smooth(), framed(list(range(5, 15))), torch.arange(12.0)
    first, again, other = (
        faithfulness(model, encoding, Target(0), scores, MASK, Trial(seed=seed, beam_width=2)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.comprehensiveness.aopc == pytest.approx(other.comprehensiveness.aopc, abs=CLOSE)
    assert first.comprehensiveness.random != other.comprehensiveness.random


def losing(weights: list[float], together: float = 0.3) -> Callable[[Tensor], Tensor]:
    """An answer that falls by a token's weight when it goes, and by more when two neighbours go together."""

    def measure(masks: Tensor) -> Tensor:
        gone = masks.double()
        return 1.0 - gone @ torch.tensor(weights, dtype=torch.float64) - together * (gone[:, 1:] * gone[:, :-1]).sum(-1)

    return measure


def exact(measure: Callable[[Tensor], Tensor], size: int, counts: list[int]) -> list[float]:
    """The mean loss of every order of the tokens."""
    means = []
    for order in itertools.permutations(range(size)):
        masks = torch.zeros(len(counts), size, dtype=torch.bool)
        for row, count in enumerate(counts):
            masks[row, list(order[:count])] = True
        means.append(float((1.0 - measure(masks)).mean()))
    return means


@few
@given(
    weights=st.lists(st.floats(-1, 1), min_size=3, max_size=5),
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_a_wide_beam_finds_the_exact_bounds_and_a_narrow_one_stays_within(
    weights: list[float], counts: list[int]
) -> None:
    measure, free = losing(weights), torch.ones(len(weights), dtype=torch.bool)
    gradual = [*range(1, max(counts) + 1), *counts]  # rises by one
    means = exact(measure, len(weights), gradual)
    for sign, best in ((1.0, max(means)), (-1.0, -min(means))):

        def gain(sets: Tensor, sign: float = sign) -> Tensor:
            return sign * (1.0 - measure(sets))

        wide, narrow = (greatest_mean(gain, free, gradual, width) for width in (100, 1))
        assert wide == pytest.approx(best)
        assert min(sign * mean for mean in means) - 1e-9 <= narrow <= best + 1e-9
        jumps = greatest_mean(gain, free, counts, 3)
        assert jumps <= max(sign * mean for mean in exact(measure, len(weights), counts)) + 1e-9
    apart = losing(weights, together=0.0)
    greedy = greatest_mean(lambda sets: 1.0 - apart(sets), free, counts, 1)
    assert greedy == pytest.approx(max(exact(apart, len(weights), counts))), "greedy is exact where losses add up"


def test_the_verdict_compares_with_chance() -> None:
    weights = [0.0] * 19 + [0.5]
    free = torch.arange(20)
    perfect = judge(losing(weights), free, [torch.tensor(weights)], Trial(beam_width=1))[0]
    assert perfect.verdict == "better than random"
    assert perfect.comprehensiveness.aopc > perfect.comprehensiveness.random.mean
    assert perfect.answer == 1.0
    assert perfect.comprehensiveness.at[0] == pytest.approx(0.5)
    misled = judge(lambda masks: masks[:, 19].double(), free, [torch.tensor(weights)], Trial())[0]
    assert misled.verdict == "worse than random"
    seen = 0
    for seed in range(60):
        scores = torch.rand(20, generator=torch.Generator().manual_seed(seed))
        found = judge(losing([0.1] * 20), free, [scores], Trial(seed=100 + seed, beam_width=0))[0]
        seen += found.verdict == "near random"
    assert seen >= 50, "a random ranking is near random but for one time in fifteen"


def test_where_no_ranking_makes_a_difference_it_is_near_random_and_not_normalised() -> None:
    one = faithfulness(deciding(), framed([9]), Target(0), torch.tensor([0.0, 1.0, 0.0]), MASK)
    assert one.verdict == "near random"
    assert one.comprehensiveness.aopc == pytest.approx(one.comprehensiveness.random.mean)
    assert one.comprehensiveness.normalised is None
    blind = judge(lambda masks: torch.full((len(masks),), 0.7).double(), torch.arange(4), [torch.arange(4.0)], Trial())[
        0
    ]
    assert blind.verdict == "near random"
    assert blind.sufficiency.normalised is None


@few
@given(model=classifiers(), body=bodies, target=targets, width=st.integers(1, 3))
def test_normalised_measures_lie_between_zero_and_one(
    model: TextModel, body: list[int], target: Target, width: int
) -> None:
    encoding = framed(body)
    scores = gradient_input(model, encoding, target).scores
    found = faithfulness(model, encoding, target, scores, MASK, Trial(num_random=3, beam_width=width))
    for part in (found.comprehensiveness, found.sufficiency):
        assert part.bounds is not None
        assert part.bounds.lower <= part.aopc <= part.bounds.upper
        assert part.normalised is None or 0.0 <= part.normalised <= 1.0
        assert part.aopc == pytest.approx(statistics.fmean(part.at))
