"""Dropout drops the share it says, keeps the mean, and its gradient is its own mask; attention in training too."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from model.attention import MultiHeadAttention, dropout_attention
from model.batch import pad_ids
from model.config import TransformerConfig
from model.dropout import Dropout, drop
from tests.small import configs, few, gap, random_model, texts


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_dropped_and_the_mean_are_right(dtype: torch.dtype, p: float) -> None:
    torch.manual_seed(0)
    count = 400_000
    dropped = drop(torch.ones(count, dtype=dtype), p)
    share = float((dropped == 0).double().mean())
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / count), "five standard errors"
    kept = dropped[dropped != 0]
    assert bool((kept == torch.tensor(1 / (1 - p), dtype=dtype)).all())


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    zero = (drop(torch.ones(1_000_000), 0.5) == 0).double() - 0.5
    for distance in (1, 2, 3, 4, 5, 8, 16):
        assert abs(float((zero[:-distance] * zero[distance:]).mean()) * 4) < 0.005


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 7), (2, 3, 5), (0,)])
def test_the_gradient_goes_where_the_value_went(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    values = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    dropped = drop(values, 0.3)
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())


def test_a_view_that_is_not_contiguous_is_dropped_in_its_own_order() -> None:
    torch.manual_seed(2)
    values = torch.arange(1.0, 13.0).view(3, 4).t()
    dropped = drop(values, 0.5) / 2
    assert bool(((dropped == 0) | (dropped == values)).all())


def test_nothing_is_dropped_in_evaluation_or_at_zero() -> None:
    values = torch.randn(8, 8)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values
    module = Dropout(0.5)
    torch.manual_seed(3)
    first = module(values)
    torch.manual_seed(3)
    assert torch.equal(first, module(values)), "the generator's seed decides"


def test_training_attention_without_a_drop_is_the_fused_path() -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 8).unbind(0)
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[0, ..., 3:] = False
    for seen in (mask, None):
        fused = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        assert gap(dropout_attention(query, key, value, seen, 0.0), fused) < 1e-6


def test_training_attention_averages_to_the_evaluated_one() -> None:
    torch.manual_seed(0)
    attention, hidden = MultiHeadAttention(16, 4, dropout=0.2), torch.randn(2, 6, 16)
    with torch.no_grad():
        mean = torch.stack([attention.train()(hidden, None) for _ in range(4000)]).mean(0)
        assert gap(mean, attention.eval()(hidden, None)) < 0.02


@few
@given(config=configs("encoder"), rows=texts(), seed=st.integers(0, 99))
def test_the_first_token_alone_equals_the_first_of_all(
    config: TransformerConfig, rows: list[list[int]], seed: int
) -> None:
    model, batch = random_model(config, seed), pad_ids(rows, 0)
    assert gap(model.body.first_token(batch), model.body(batch)[:, 0]) < 1e-4
