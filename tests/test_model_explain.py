"""Attributions and their faithfulness: against Captum, against loops that follow the papers, and by their properties."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
import torch
from captum.attr import LayerGradientXActivation, LayerIntegratedGradients
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model import attention
from model.batch import Batch, pad
from model.explain.bounds import greatest_mean
from model.explain.faithfulness import PERCENTS, Faithfulness, Trial, faithfulness, judge, random_rankings
from model.explain.gradient import gradient_input, gradient_weighted, next_token_gradient_input
from model.explain.integrated import integrated_gradients
from model.explain.masking import replacement_id
from model.explain.occlusion import occlusion
from model.explain.target import Target
from model.heads import TextModel
from model.tokenizer import Encoding, Marks, train_byte_bpe, train_wordpiece
from model.transformer import Trace
from tests.small import VOCABULARY, configs, few, gap, random_model, small_config

CLOSE = 1e-5
MASK = 4
LABELS = ("a", "b", "c")
seeds = st.integers(0, 1000)
targets = st.sampled_from([Target(0), Target(2), Target(1, against=0)])
bodies = st.lists(st.integers(5, VOCABULARY - 1), min_size=1, max_size=8)


def framed(body: list[int]) -> Encoding:
    """A text between two special tokens, as BERT reads it."""
    special = (True, *[False] * len(body), True)
    count = len(special)
    marks = Marks(("",) * count, ((0, 0),) * count, (0,) * count, special, (-1,) * count)
    return dataclasses.replace(Encoding.of_ids([2, *body, 3]), make_marks=lambda: marks)


@st.composite
def classifiers(draw: st.DrawFn) -> TextModel:
    config = draw(configs("encoder", "decoder"))
    pooling = draw(st.sampled_from(["mean", "first", "last"]))
    pooler = draw(st.sampled_from(["none", "tanh"]))
    return random_model(config.with_task("classification", LABELS, pooling, pooler), draw(seeds))


def smooth(architecture: str = "encoder", seed: int = 0, **fields: object) -> TextModel:
    usual = {"task": "classification", "labels": LABELS, "norm_embeddings": True, "num_segments": 2}
    return random_model(small_config(architecture, **(usual | fields)), seed)


def value_of(model: TextModel, encoding: Encoding, target: Target) -> float:
    return float(target.value(model.classify(pad([encoding], 0))[0]))


def without(encoding: Encoding, places: set[int]) -> Encoding:
    ids = tuple(MASK if place in places else number for place, number in enumerate(encoding.ids))
    return dataclasses.replace(encoding, ids=ids)


def over_ids(model: TextModel, encoding: Encoding, target: Target) -> Callable[[Tensor], Tensor]:
    """ids [R, T] -> the target's value [R], the way Captum wants it."""
    text = pad([encoding], 0)

    def forward(ids: Tensor) -> Tensor:
        segments, positions, documents = (
            part.expand_as(ids) for part in (text.segments, text.positions, text.documents)
        )
        return target.value(model.classify(Batch(ids, segments, positions, documents)))

    return forward


@pytest.fixture
def passes() -> Iterator[list[int]]:
    """Token counts of the forward passes made while the test runs."""
    seen: list[int] = []
    whole, embedded = TextModel.classify, TextModel.classify_embedded

    def classify(self: TextModel, batch: Batch) -> Tensor:
        seen.append(batch.num_tokens)
        return whole(self, batch)

    def classify_embedded(self: TextModel, vectors: Tensor, batch: Batch, trace: Trace | None = None) -> Tensor:
        seen.append(batch.num_tokens)
        return embedded(self, vectors, batch, trace)

    with patch.multiple(TextModel, classify=classify, classify_embedded=classify_embedded):
        yield seen


# ---- gradients


def relevance_by_loops(model: TextModel, encoding: Encoding, target: Target) -> list[float]:
    """Chefer, Gur and Wolf 2021, number by number; each gradient is the difference that a probability makes."""
    batch, count = pad([encoding], 0), len(encoding.ids)
    heads, step = model.config.num_heads, 1e-5
    embedded = model.body.embeddings(batch.ids, batch.positions, batch.segments)
    attended: list[Tensor] = []

    def answer(nudged: tuple[int, int, int, int] | None = None, amount: float = 0.0) -> float:
        attended.clear()

        def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, _: float) -> tuple[Tensor, Tensor]:
            scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
            weights = (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)
            if nudged is not None and nudged[0] == len(attended):
                weights[0, nudged[1], nudged[2], nudged[3]] += amount
            attended.append(weights)
            return weights @ value, weights

        with patch.object(attention, "scaled_dot_product_attention", attend):
            return float(target.value(model.classify_embedded(embedded, batch, Trace())[0]))

    answer()
    attention_of = [weights[0].tolist() for weights in attended]  # [layer][head][row][column]
    relevance = torch.eye(count).tolist()
    for layer, by_head in enumerate(attention_of):
        weighted = torch.zeros(count, count).tolist()
        for head, row, column in itertools.product(range(heads), range(count), range(count)):
            place = (layer, head, row, column)
            slope = (answer(place, step) - answer(place, -step)) / (2 * step)
            weighted[row][column] += max(0.0, slope * by_head[head][row][column]) / heads
        before = [list(row) for row in relevance]
        for row, column, between in itertools.product(range(count), repeat=3):
            relevance[row][column] += weighted[row][between] * before[between][column]
    for place in range(count):
        relevance[place][place] -= 1.0
    if model.config.pooling == "mean":
        return [statistics.fmean(column) for column in zip(*relevance, strict=True)]
    return relevance[0 if model.config.pooling == "first" else -1]


@pytest.mark.parametrize("target", [Target(1), Target(2, against=0)])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_gradient_weighted_attention_is_that_of_the_paper(architecture: str, pooling: str, target: Target) -> None:
    model = smooth(architecture, pooling=pooling).double()
    encoding = framed([7, 8, 9])
    expected = torch.tensor(relevance_by_loops(model, encoding, target), dtype=torch.float32)
    found = gradient_weighted(model, encoding, target)
    assert float(expected.max()) > 1e-3
    assert gap(found.scores, expected) < CLOSE
    assert found.value == pytest.approx(value_of(model, encoding, target), abs=CLOSE)


@few
@given(model=classifiers(), body=bodies, target=targets)
def test_gradient_weighted_scores_are_never_below_zero(model: TextModel, body: list[int], target: Target) -> None:
    with torch.inference_mode():  # as an engine calls it
        found = gradient_weighted(model, framed(body), target)
    assert found.scores.shape == (len(body) + 2,)
    assert float(found.scores.min()) >= 0.0
    assert found.rest is None
    if model.config.architecture == "decoder" and model.config.pooling == "first":
        assert float(found.scores[1:].max()) == 0.0, "the first token of a causal model sees no other"


@few
@given(model=classifiers(), body=bodies, target=targets)
def test_gradient_times_input_is_captums(model: TextModel, body: list[int], target: Target) -> None:
    encoding = framed(body)
    theirs = LayerGradientXActivation(over_ids(model, encoding, target), model.body.embeddings.token)
    expected = theirs.attribute(torch.tensor([encoding.ids])).sum(-1)[0].detach()
    found = gradient_input(model, encoding, target)
    assert gap(found.scores, expected) < CLOSE * max(1.0, float(expected.abs().max()))
    assert found.value == pytest.approx(value_of(model, encoding, target), abs=CLOSE)


@few
@given(
    config=configs("decoder"), body=bodies, token=st.integers(0, 9), against=st.none() | st.integers(10, 19), seed=seeds
)
def test_gradient_times_input_of_the_next_token_is_captums(
    config: object, body: list[int], token: int, against: int | None, seed: int
) -> None:
    model = random_model(config, seed)

    def forward(ids: Tensor) -> Tensor:
        logits = model.vocabulary_logits(model.body(pad([Encoding.of_ids(row) for row in ids.tolist()], 0))[:, -1])
        return Target(token, against).value(logits)

    ids = torch.tensor([body])
    theirs = LayerGradientXActivation(forward, model.body.embeddings.token)
    expected = theirs.attribute(ids).sum(-1)[0].detach()
    found = next_token_gradient_input(model, Encoding.of_ids(body), token, against)
    assert gap(found.scores, expected) < CLOSE * max(1.0, float(expected.abs().max()))
    assert found.value == pytest.approx(float(forward(ids)[0]), abs=1e-4)


# ---- integrated gradients


@few
@given(model=classifiers(), body=bodies, target=targets, steps=st.integers(1, 9), max_tokens=st.integers(1, 60))
def test_integrated_gradients_are_captums(
    model: TextModel, body: list[int], target: Target, steps: int, max_tokens: int
) -> None:
    encoding = framed(body)
    theirs = LayerIntegratedGradients(over_ids(model, encoding, target), model.body.embeddings.token)
    baseline = without(encoding, set(range(1, len(body) + 1)))
    expected, missing = theirs.attribute(
        torch.tensor([encoding.ids]), torch.tensor([baseline.ids]), n_steps=steps, method="gausslegendre",
        return_convergence_delta=True,
    )  # fmt: skip
    found = integrated_gradients(model, encoding, target, MASK, steps, max_tokens)
    size = max(1.0, float(expected.abs().sum()))
    assert gap(found.scores, expected.sum(-1)[0].float()) < CLOSE * size
    assert found.rest == pytest.approx(-float(missing), abs=CLOSE * size), "theirs: sum less difference"
    assert found.value == pytest.approx(value_of(model, encoding, target), abs=CLOSE)
    assert found.baseline == pytest.approx(value_of(model, baseline, target), abs=CLOSE)
    assert found.rest is not None
    assert found.baseline + float(found.scores.sum()) + found.rest == pytest.approx(found.value, abs=CLOSE * size)
    assert found.scores[0] == found.scores[-1] == 0.0, "special tokens stay"


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_the_gap_of_integrated_gradients_shrinks_with_steps(task: str) -> None:
    gaps = dict.fromkeys((1, 4, 16), 0.0)
    for seed in range(5):
        model = smooth(seed=seed, task=task, labels=() if task == "regression" else LABELS).double()
        for steps in gaps:
            rest = integrated_gradients(model, framed([5, 9, 13, 17, 21]), Target(0), MASK, steps).rest
            assert rest is not None
            gaps[steps] += abs(rest)
    assert gaps[1] > 10 * gaps[4] > 100 * gaps[16]
    assert gaps[16] < 1e-4


def test_points_of_the_path_stay_within_the_token_cap(passes: list[int]) -> None:
    model, encoding = smooth(), framed([5, 6, 7, 8])
    few_rows = integrated_gradients(model, encoding, Target(0), MASK, steps=32, max_tokens=20)
    assert max(passes) == 18
    passes.clear()
    assert gap(few_rows.scores, integrated_gradients(model, encoding, Target(0), MASK, steps=32).scores) < CLOSE
    assert max(passes) == 32 * 6
    passes.clear()
    integrated_gradients(model, encoding, Target(0), MASK, steps=3, max_tokens=1)
    assert max(passes) == 6, "a text longer than the cap goes alone"


# ---- occlusion


@few
@given(model=classifiers(), body=bodies, target=targets, window=st.integers(1, 3), max_tokens=st.integers(1, 60))
def test_occlusion_equals_each_masked_text_alone(
    model: TextModel, body: list[int], target: Target, window: int, max_tokens: int
) -> None:
    encoding, window = framed(body), min(window, len(body))
    whole = value_of(model, encoding, target)
    losses: list[list[float]] = [[] for _ in encoding.ids]
    for start in range(1, len(body) - window + 2):
        places = set(range(start, start + window))
        for place in places:
            losses[place].append(whole - value_of(model, without(encoding, places), target))
    found = occlusion(model, encoding, target, MASK, window, max_tokens)
    expected = torch.tensor([statistics.fmean(each) if each else 0.0 for each in losses])
    assert gap(found.scores, expected) < CLOSE
    assert found.scores[0] == found.scores[-1] == 0.0
    assert found.value == pytest.approx(whole, abs=CLOSE)
    assert found.rest is None


def test_equal_variants_are_evaluated_once_and_together(passes: list[int]) -> None:
    model = smooth()
    occlusion(model, framed([5, 6, 7, 8]), Target(0), MASK, max_tokens=12)
    assert passes == [12, 12, 6], "the whole text and four variants of six tokens"
    passes.clear()
    faithfulness(model, framed([5, 6, 7, 8]), Target(0), torch.arange(6.0), MASK, Trial(beam_width=0))
    assert len(passes) == 1, "five shares of twenty-one rankings, twice"
    assert passes[0] <= 6 * 2**4


def test_what_stands_for_a_missing_token() -> None:
    words = train_wordpiece(["red green blue"] * 5, 60)
    pieces = train_byte_bpe(["red green blue"] * 5, 300)
    config = small_config("encoder", pad_id=7)
    assert replacement_id(words, config) == words.id_of("[MASK]")
    assert replacement_id(pieces, config) == 7
    with patch.object(type(words), "mask_token", None):
        assert replacement_id(words, config) == words.unknown_id


# ---- faithfulness


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


# ---- the search for bounds, and the verdict, on answers that are known


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
    perfect = judge(losing(weights), free, torch.tensor(weights), Trial(beam_width=1))
    assert perfect.verdict == "better than random"
    assert perfect.comprehensiveness.aopc > perfect.comprehensiveness.random.mean
    assert perfect.answer == 1.0
    assert perfect.comprehensiveness.at[0] == pytest.approx(0.5)
    misled = judge(lambda masks: masks[:, 19].double(), free, torch.tensor(weights), Trial())
    assert misled.verdict == "worse than random"
    seen = 0
    for seed in range(60):
        scores = torch.rand(20, generator=torch.Generator().manual_seed(seed))
        seen += judge(losing([0.1] * 20), free, scores, Trial(seed=100 + seed, beam_width=0)).verdict == "near random"
    assert seen >= 50, "a random ranking is near random but for one time in fifteen"


def test_where_no_ranking_makes_a_difference_it_is_near_random_and_not_normalised() -> None:
    one = faithfulness(deciding(), framed([9]), Target(0), torch.tensor([0.0, 1.0, 0.0]), MASK)
    assert one.verdict == "near random"
    assert one.comprehensiveness.aopc == pytest.approx(one.comprehensiveness.random.mean)
    assert one.comprehensiveness.normalised is None
    blind = judge(lambda masks: torch.full((len(masks),), 0.7).double(), torch.arange(4), torch.arange(4.0), Trial())
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


# ---- errors


METHODS: dict[str, Callable[[TextModel, Encoding, Target], object]] = {
    "gradient_weighted": gradient_weighted,
    "gradient_input": gradient_input,
    "integrated": lambda model, encoding, target: integrated_gradients(model, encoding, target, MASK),
    "occlusion": lambda model, encoding, target: occlusion(model, encoding, target, MASK),
    "faithfulness": lambda model, encoding, target: faithfulness(
        model, encoding, target, torch.zeros(len(encoding.ids)), MASK
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_what_cannot_be_explained_is_refused_with_value_limit_and_remedy(name: str) -> None:
    explain, model, encoding = METHODS[name], smooth(), framed([5, 6])
    with pytest.raises(ValueError, match="label 3 is not one of 3; choose from 0 to 2"):
        explain(model, encoding, Target(3))
    with pytest.raises(ValueError, match="label -1 is not one of 3"):
        explain(model, encoding, Target(0, against=-1))
    with pytest.raises(ValueError, match="label 1 against itself is always 0; choose another"):
        explain(model, encoding, Target(1, against=1))
    with pytest.raises(ValueError, match="label 1 is not one of 1"):
        explain(smooth(task="regression", labels=()), encoding, Target(0, against=1))
    with pytest.raises(ValueError, match=r"architecture is 'encoder_decoder'; .* encoder or decoder"):
        explain(random_model(small_config("encoder_decoder")), encoding, Target(0))
    with pytest.raises(ValueError, match="task is 'masked_lm'; choose a model tuned for one of"):
        explain(random_model(small_config("encoder")), encoding, Target(0))
    with pytest.raises(ValueError, match="66 tokens; send 1 to 64, or set truncate=true"):
        explain(model, framed([5] * 64), Target(0))


def test_settings_out_of_range_are_refused() -> None:
    model, encoding, writer = smooth(), framed([5, 6]), random_model(small_config("decoder"))
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        integrated_gradients(model, encoding, Target(0), MASK, steps=0)
    with pytest.raises(ValueError, match="max_tokens is 0; it must be at least 1"):
        integrated_gradients(model, encoding, Target(0), MASK, max_tokens=0)
    with pytest.raises(ValueError, match="replacement 40 is outside the vocabulary; choose from 0 to 39"):
        integrated_gradients(model, encoding, Target(0), 40)
    with pytest.raises(ValueError, match="replacement -1 is outside the vocabulary"):
        occlusion(model, encoding, Target(0), -1)
    for window in (0, 3):
        with pytest.raises(ValueError, match=f"window is {window}; choose from 1 to 2"):
            occlusion(model, encoding, Target(0), MASK, window)
    with pytest.raises(ValueError, match="all 2 tokens are special; send a text"):
        occlusion(model, framed([]), Target(0), MASK)
    with pytest.raises(ValueError, match=r"scores have shape \[3\]; give one finite number for each of 4"):
        faithfulness(model, encoding, Target(0), torch.zeros(3), MASK)
    with pytest.raises(ValueError, match="one finite number for each"):
        faithfulness(model, encoding, Target(0), torch.full((4,), math.nan), MASK)
    with pytest.raises(ValueError, match="num_random is 1; a deviation needs at least 2"):
        Trial(num_random=1)
    with pytest.raises(ValueError, match="beam_width is -1; choose 0"):
        Trial(beam_width=-1)
    with pytest.raises(ValueError, match="token 40 is not one of 40; choose from 0 to 39"):
        next_token_gradient_input(writer, encoding, 40)
    with pytest.raises(ValueError, match="task is 'classification'; choose a model that writes"):
        next_token_gradient_input(model, encoding, 1)
    with pytest.raises(ValueError, match="attributions need a model of one text"):
        next_token_gradient_input(random_model(small_config("encoder_decoder")), encoding, 1)
