"""The decomposition of an answer: its sum, against its plain form, its memory, and where the answer is known."""

import itertools
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
from model.explain.decomposition import NEAR_ZERO, decompose
from model.explain.occlusion import occlusion
from model.explain.target import Attribution, Target
from model.heads import TextModel
from model.tokenizer import Encoding
from tests.followed import followed
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


@st.composite
def writers(draw: st.DrawFn) -> TextModel:
    return random_model(draw(configs("decoder")), draw(seeds))


def classifier(architecture: str = "encoder", seed: int = 0, **fields: object) -> TextModel:
    usual = {"task": "classification", "labels": LABELS, "activation": "relu"}
    return random_model(small_config(architecture, **(usual | fields)), seed)


def target_of(model: TextModel) -> Target:
    return Target(0) if model.config.task == "regression" else Target(2, against=0)


def value_of(model: TextModel, encoding: Encoding, target: Target) -> float:
    return float(target.value(model.classify(pad([encoding], 0))[0]))


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


# ---- against the plain form


@few
@given(model=readers(), row=rows)
def test_one_backward_pass_gives_what_following_every_token_forwards_gives(model: TextModel, row: list[int]) -> None:
    encoding, target = Encoding.of_ids(row), target_of(model)
    expected = target.value(followed(model, encoding))
    with torch.inference_mode():  # as an engine calls it
        found = decompose(model, encoding, target).scores
    assert gap(found, expected) < CLOSE * max(1.0, float(expected.abs().max()))


@few
@given(model=writers(), row=rows, target=st.sampled_from([Target(3), Target(7, against=30)]))
def test_the_next_tokens_logit_is_decomposed_alike(model: TextModel, row: list[int], target: Target) -> None:
    encoding = Encoding.of_ids(row)
    found = decompose(model, encoding, target)
    logits = model.vocabulary_logits(model.body(pad([encoding], 0))[:, -1])
    assert found.value == pytest.approx(float(target.value(logits[0])), abs=1e-5)
    assert abs(found.rest or 0.0) < 1e-3
    expected = target.value(followed(model, encoding))
    assert gap(found.scores, expected) < CLOSE * max(1.0, float(expected.abs().max()))


# ---- memory


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


def test_no_vector_is_kept_for_each_pair_of_tokens() -> None:
    model = classifier(width=64, feed_forward_width=256, activation="gelu", max_positions=512)
    peaks = []
    for count in (128, 256):
        encoding = Encoding.of_ids([5 + place % 30 for place in range(count)])
        peaks.append(most_bytes(lambda text=encoding: decompose(model, text, Target(0))))  # type: ignore[misc]
    assert peaks[1] < 256 * 256 * 64 * 4, "less than one [T, T, D] of float32"
    assert peaks[1] < 3.5 * peaks[0], "attention alone grows with the square"


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
