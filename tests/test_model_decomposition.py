"""The decomposition of an answer: its sum, its memory, against loops number by number, and where the answer is known."""

import itertools
import math
import statistics
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.batch import pad
from model.explain.decomposition import NEAR_ZERO, SPARE_ROWS, decompose, sources_at_once
from model.explain.occlusion import occlusion
from model.explain.target import Attribution, Target
from model.heads import TextModel
from model.tokenizer import Encoding
from tests.small import VOCABULARY, configs, few, gap, random_model, small_config

CLOSE = 1e-4
LABELS = ("a", "b", "c")
TASKS = {"classification": LABELS, "multi_label": LABELS, "regression": ()}
seeds = st.integers(0, 1000)
rows = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=10)


@st.composite
def readers(draw: st.DrawFn, *architectures: str) -> TextModel:
    """Models that answer one text by labels or a number."""
    task = draw(st.sampled_from(sorted(TASKS)))
    pooling = draw(st.sampled_from(["mean", "first", "last"]))
    pooler = draw(st.sampled_from(["none", "tanh", "relu"]))
    config = draw(configs(*architectures or ("encoder", "decoder")))
    return random_model(config.with_task(task, TASKS[task], pooling, pooler), draw(seeds))


def classifier(architecture: str = "encoder", seed: int = 0, **fields: object) -> TextModel:
    usual = {"task": "classification", "labels": LABELS, "activation": "relu"}
    return random_model(small_config(architecture, **(usual | fields)), seed)


def target_of(model: TextModel) -> Target:
    return Target(0) if model.config.task == "regression" else Target(2, against=0)


def value_of(model: TextModel, encoding: Encoding, target: Target) -> float:
    return float(target.value(model.classify(pad([encoding], 0))[0]))


def least_bytes(model: TextModel, tokens: int, sources: int = 1) -> int:
    """With which so many sources are followed at once."""
    numbers = tokens * (model.config.feed_forward_width + 6 * model.config.width)
    return 4 * numbers * (SPARE_ROWS + 1 + sources)


def check_sum(model: TextModel, encoding: Encoding, target: Target) -> Attribution:
    found = decompose(model, encoding, target)
    assert found.scores.shape == (len(encoding.ids),)
    assert found.scores.dtype == torch.float32
    assert found.value == pytest.approx(value_of(model, encoding, target), abs=1e-6)
    assert found.rest == pytest.approx(found.value - float(found.scores.double().sum()), abs=1e-9)
    assert abs(found.rest or 0.0) < CLOSE * max(1.0, float(found.scores.abs().sum()))
    assert abs(found.rest or 0.0) < 1e-3
    return found


# ---- the sum


@few
@given(model=readers(), row=rows)
def test_scores_sum_to_the_value(model: TextModel, row: list[int]) -> None:
    check_sum(model, Encoding.of_ids(row), target_of(model))


@pytest.mark.parametrize("pooler", ["none", "tanh", "relu"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_scores_sum_to_the_value_under_every_head(
    architecture: str, norm_first: bool, activation: str, pooler: str
) -> None:
    fields = {"norm_first": norm_first, "activation": activation}
    cases = itertools.product(TASKS, ["mean", "first", "last"], ["learned", "sinusoidal"], [False, True])
    for seed, (task, pooling, positions, norm_embeddings) in enumerate(cases):
        config = small_config(architecture, positions=positions, norm_embeddings=norm_embeddings, **fields)
        model = random_model(config.with_task(task, TASKS[task], pooling, pooler), seed)
        check_sum(model, Encoding.of_ids([7, 8, 9, 7, 5]), target_of(model))


# ---- memory


@few
@given(model=readers(), row=rows, sources=st.integers(1, 4))
def test_a_chunked_result_equals_the_whole(model: TextModel, row: list[int], sources: int) -> None:
    encoding, target = Encoding.of_ids(row), target_of(model)
    whole = decompose(model, encoding, target)
    max_bytes = least_bytes(model, len(row), sources)
    assert sources_at_once(model, len(row), 2**28) == len(row)
    assert sources_at_once(model, len(row), max_bytes) == min(sources, len(row))
    parts = decompose(model, encoding, target, max_bytes)
    assert gap(parts.scores, whole.scores) < 1e-5 * max(1.0, float(whole.scores.abs().max()))


class Watch(TorchDispatchMode):
    """Bytes of the tensors that are made while it is on: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self.seen:
                self.seen.add(storage)
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return made

    def _add(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


def most_bytes(run: Callable[[], object]) -> int:
    with Watch() as watch:
        run()
    return watch.most


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(("width", "feed_forward_width"), [(16, 256), (64, 64), (32, 128)])
def test_what_is_computed_stays_within_the_cap(width: int, feed_forward_width: int, norm_first: bool) -> None:
    model = classifier(
        width=width, feed_forward_width=feed_forward_width, norm_first=norm_first, activation="gelu_tanh",
        max_positions=128,
    )  # fmt: skip
    encoding = Encoding.of_ids([5 + place % 30 for place in range(128)])
    traced = most_bytes(lambda: model.trace(pad([encoding], 0)))
    for sources in (1, 8, 32):
        max_bytes = least_bytes(model, 128, sources)
        most = most_bytes(lambda limit=max_bytes: decompose(model, encoding, Target(0), limit))  # type: ignore[misc]
        assert most - traced < max_bytes
        if sources < 32:
            assert most - traced < 4 * 128 * 128 * feed_forward_width, "never all sources, tokens and features at once"
        else:
            assert most - traced > max_bytes / 3, "the cap is made use of"


# ---- against loops


def affine(linear: torch.nn.Linear, parts: list[list[float]], shares: list[float]) -> list[list[float]]:
    """One place's vector, a part a source; each takes its share of the bias."""
    weight = linear.weight.tolist()
    bias = [0.0] * len(weight) if linear.bias is None else linear.bias.tolist()
    return [
        [sum(w * x for w, x in zip(line, part, strict=True)) + share * b for line, b in zip(weight, bias, strict=True)]
        for part, share in zip(parts, shares, strict=True)
    ]


def summed(parts: list[list[float]]) -> list[float]:
    return [math.fsum(column) for column in zip(*parts, strict=True)]


def plus(first: list[list[float]], second: list[list[float]]) -> list[list[float]]:
    return [[x + y for x, y in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]


def normalised(norm: torch.nn.LayerNorm, parts: list[list[float]], shares: list[float]) -> list[list[float]]:
    deviation = math.sqrt(statistics.pvariance(summed(parts)) + norm.eps)
    weight, bias = norm.weight.tolist(), norm.bias.tolist()
    found = []
    for part, share in zip(parts, shares, strict=True):
        mean = statistics.fmean(part)
        found.append([(x - mean) / deviation * w + share * b for x, w, b in zip(part, weight, bias, strict=True)])
    return found


def activated(function: Callable[[float], float], parts: list[list[float]]) -> list[list[float]]:
    slopes = [function(x) / x if x else 0.0 for x in summed(parts)]
    return [[slope * x for slope, x in zip(slopes, part, strict=True)] for part in parts]


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def attended(
    layer: torch.nn.Module, read: list[list[list[float]]], weights: list[list[list[float]]], before: list[list[float]]
) -> list[list[list[float]]]:
    """The heads' mixed values, before the output projection: [token][source][D]."""
    count, width = len(read), len(read[0][0])
    qkv, heads = layer.attention.qkv, len(weights)
    value_of = torch.nn.Linear(width, width)
    value_of.weight.data, value_of.bias.data = qkv.weight[2 * width :], qkv.bias[2 * width :]
    values = [affine(value_of, read[token], before[token]) for token in range(count)]
    mixed = torch.zeros(count, count, width).tolist()
    for token, source, seen, place in itertools.product(range(count), range(count), range(count), range(width)):
        head = place // (width // heads)
        mixed[token][source][place] += weights[head][token][seen] * values[seen][source][place]
    return mixed


def scores_by_loops(model: TextModel, encoding: Encoding, target: Target) -> list[float]:
    """Number by number: parts[token][source][D], shares[token][source]."""
    trace, count = model.trace(pad([encoding], 0)), len(encoding.ids)
    function = gelu if model.config.activation == "gelu" else lambda x: max(0.0, x)
    hidden = trace.hidden[0][0].tolist()
    parts = [[hidden[t] if s == t else [0.0] * len(hidden[t]) for s in range(count)] for t in range(count)]
    shares = [[float(s == t) for s in range(count)] for t in range(count)]
    for layer, probabilities in zip(model.body.layers, trace.probabilities, strict=True):
        first, second = layer.attention_norm, layer.feed_forward_norm
        weights, before = probabilities[0].tolist(), shares
        shares = torch.zeros(count, count).tolist()
        for token, source in itertools.product(range(count), range(count)):
            looks = [statistics.fmean(head[token][seen] for head in weights) for seen in range(count)]
            rolled = sum(look * before[seen][source] for seen, look in enumerate(looks))
            shares[token][source] = 0.5 * before[token][source] + 0.5 * rolled
        read = parts
        if layer.norm_first:
            read = [normalised(first, parts[t], before[t]) for t in range(count)]
        mixed = attended(layer, read, weights, before)
        for token, share in enumerate(shares):
            summed_up = plus(parts[token], affine(layer.attention.output, mixed[token], share))
            if not layer.norm_first:
                summed_up = normalised(first, summed_up, share)
            fed = normalised(second, summed_up, share) if layer.norm_first else summed_up
            expanded = activated(function, affine(layer.feed_forward.expand, fed, share))
            summed_up = plus(summed_up, affine(layer.feed_forward.contract, expanded, share))
            parts[token] = summed_up if layer.norm_first else normalised(second, summed_up, share)
    if model.config.norm_first:
        parts = [normalised(model.body.norm, parts[t], shares[t]) for t in range(count)]
    places = {"mean": range(count), "first": [0], "last": [count - 1]}[model.config.pooling]
    vector = [summed([[x / len(places) for x in parts[t][s]] for t in places]) for s in range(count)]
    share = [statistics.fmean(shares[t][s] for t in places) for s in range(count)]
    if model.pooler is not None:
        vector = activated(math.tanh, affine(model.pooler.dense, vector, share))
    return [float(target.value(torch.tensor(logits))) for logits in affine(model.classifier.linear, vector, share)]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_scores_are_those_of_the_formulas(architecture: str, norm_first: bool, pooling: str, activation: str) -> None:
    model = classifier(
        architecture, width=8, feed_forward_width=6, norm_first=norm_first, pooling=pooling, activation=activation,
        pooler="tanh" if activation == "gelu" else "none", norm_embeddings=True,
    )  # fmt: skip
    encoding = Encoding.of_ids([7, 8, 9, 5])
    for target in (Target(1), Target(2, against=0)):
        expected = torch.tensor(scores_by_loops(model, encoding, target))
        assert gap(decompose(model, encoding, target).scores, expected) < CLOSE * max(1.0, float(expected.abs().max()))


# ---- where the answer is known


def without_biases(model: TextModel) -> TextModel:
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    return model


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_where_one_token_speaks_the_whole_score_is_its_own(norm_first: bool, pooling: str) -> None:
    model = without_biases(classifier(norm_first=norm_first, pooling=pooling, pooler="relu", activation="gelu"))
    embeddings = model.body.embeddings
    embeddings.position.embedding.weight.zero_()
    embeddings.token.weight[5] = 0.0
    found = check_sum(model, Encoding.of_ids([5, 5, 9, 5]), Target(1))
    assert abs(found.value) > 0.01
    assert float(found.scores[2]) == pytest.approx(found.value, abs=1e-5)
    assert float(found.scores[[0, 1, 3]].abs().max()) == 0.0


def linear_model(architecture: str, norm_first: bool, pooling: str) -> TextModel:
    """The same attention whatever the text, ReLUs that are always open, LayerNorms whose deviation is always 10,000: the
    answer is a linear function of the embeddings, its constant zero."""
    model = without_biases(
        classifier(architecture, norm_first=norm_first, pooling=pooling, norm_epsilon=1e8, scale_embeddings=True)
    )
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            parameter.mul_(10_000.0)
    for layer in model.body.layers:
        layer.attention.qkv.weight[: 2 * model.config.width] = 0.0
        expand, contract = layer.feed_forward.expand, layer.feed_forward.contract
        expand.weight.mul_(0.1)
        expand.bias.fill_(50.0)
        contract.bias.copy_(-(contract.weight @ expand.bias))
    return model.double()


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_of_a_linear_model_a_score_is_the_answer_to_that_token_alone(
    architecture: str, norm_first: bool, pooling: str
) -> None:
    model, target = linear_model(architecture, norm_first, pooling), Target(2, against=0)
    encoding = Encoding.of_ids([7, 8, 9, 5, 6])
    batch = pad([encoding], 0)
    embedded = model.body.embeddings(batch.ids, batch.positions, batch.segments)  # [1, T, D]
    alone = [embedded * (torch.arange(5) == place)[:, None] for place in range(5)]
    expected = torch.cat([target.value(model.classify_embedded(each, batch)) for each in alone])
    assert float(expected.abs().max()) > 0.1
    close = CLOSE * float(expected.abs().max())
    assert float(expected.sum()) == pytest.approx(value_of(model, encoding, target), abs=close), "it is linear"
    assert gap(decompose(model, encoding, target).scores, expected.float()) < close


@few
@given(model=readers("decoder"), row=rows)
def test_what_a_causal_model_cannot_see_scores_nothing(model: TextModel, row: list[int]) -> None:
    found = decompose(model, Encoding.of_ids(row), target_of(model))
    if model.config.pooling == "first":
        assert not found.scores[1:].any()


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh"])
def test_an_activation_at_zero_has_its_limit(activation: str) -> None:
    """Of a feed-forward network that adds nothing: its inputs are 0, or closer to it than a slope is taken at."""
    model = classifier(activation=activation)
    for layer in model.body.layers:
        layer.feed_forward.expand.weight.zero_()
        layer.feed_forward.expand.bias.copy_(torch.linspace(-NEAR_ZERO / 2, NEAR_ZERO / 2, 24))
        layer.feed_forward.expand.bias[:8] = 0.0
    check_sum(model, Encoding.of_ids([5, 6, 7]), Target(0))


def ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


@pytest.mark.parametrize("norm_first", [False, True])
def test_scores_agree_with_occlusion_better_than_chance(norm_first: bool) -> None:
    """Mean rank correlation over random models. Of random scores it is 0 with a deviation of 0.07."""
    found = []
    for seed in range(20):
        model = classifier(seed=seed, norm_first=norm_first, activation="gelu", num_layers=3, pooler="tanh")
        encoding = Encoding.of_ids(torch.randint(5, 40, (12,), generator=torch.Generator().manual_seed(seed)).tolist())
        losses = occlusion(model, encoding, Target(0), replacement=4).scores
        pair = torch.stack([ranks(decompose(model, encoding, Target(0)).scores), ranks(losses)])
        found.append(float(torch.corrcoef(pair)[0, 1]))
    assert statistics.fmean(found) > 0.15


# ---- errors


def test_what_cannot_be_decomposed_is_refused_with_value_limit_and_remedy() -> None:
    model, encoding = classifier(), Encoding.of_ids([5, 6])
    with pytest.raises(ValueError, match="label 3 is not one of 3; choose from 0 to 2"):
        decompose(model, encoding, Target(3))
    with pytest.raises(ValueError, match="label -1 is not one of 3; choose from 0 to 2"):
        decompose(model, encoding, Target(0, against=-1))
    with pytest.raises(ValueError, match="label 1 against itself is always 0; choose another"):
        decompose(model, encoding, Target(1, against=1))
    with pytest.raises(ValueError, match=r"architecture is 'encoder_decoder'; .* encoder or decoder"):
        decompose(random_model(small_config("encoder_decoder")), encoding, Target(0))
    with pytest.raises(ValueError, match="task is 'masked_lm'; choose a model tuned for one of"):
        decompose(random_model(small_config("encoder")), encoding, Target(0))
    with pytest.raises(ValueError, match="66 tokens; send 1 to 64, or set truncate=true"):
        decompose(model, Encoding.of_ids([5] * 66), Target(0))
    least = least_bytes(model, 2)
    decompose(model, encoding, Target(0), least)
    with pytest.raises(
        ValueError, match=f"max_bytes is {least - 1}; a text of 2 tokens needs {least}: raise it, or shorten"
    ):
        decompose(model, encoding, Target(0), least - 1)
