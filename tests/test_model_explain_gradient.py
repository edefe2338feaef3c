"""Gradient-weighted attention and gradient times input: against Captum, and loops that follow the paper."""

import itertools
import math
import statistics
from unittest.mock import patch

import pytest
import torch
from captum.attr import LayerGradientXActivation
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model import attention
from model.batch import pad
from model.explain.gradient import gradient_input, gradient_weighted
from model.explain.target import Target
from model.heads import TextModel
from model.tokenizer import Encoding
from model.transformer import Trace
from tests.explained import CLOSE, bodies, classifiers, framed, over_ids, seeds, smooth, targets, value_of
from tests.small import configs, few, gap, random_model


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
    found = gradient_input(model, Encoding.of_ids(body), Target(token, against))
    assert gap(found.scores, expected) < CLOSE * max(1.0, float(expected.abs().max()))
    assert found.value == pytest.approx(float(forward(ids)[0]), abs=1e-4)
