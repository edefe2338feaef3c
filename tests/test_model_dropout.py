"""Dropout drops the share it says, keeps the mean, and its gradient is its own mask; attention in training too."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.attention import MultiHeadAttention, SelfAttention, dropout_attention
from model.batch import pad_ids
from model.config import TransformerConfig
from model.dropout import Dropout, draw_kept, drop
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


def seen_by(kind: str, batch: int, tokens: int) -> torch.Tensor | None:
    if kind == "all":
        return None
    if kind == "causal":
        return torch.ones(batch, 1, tokens, tokens, dtype=torch.bool).tril()
    mask = torch.ones(batch, 1, 1, tokens, dtype=torch.bool)
    mask[0, ..., tokens - 2 :] = False
    return mask


@pytest.mark.parametrize("kind", ["all", "padded", "causal"])
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_the_written_out_gradient_of_attention_is_that_of_the_formula(kind: str, p: float) -> None:
    qkv = torch.randn(3, 5, 3 * 8, dtype=torch.float64, requires_grad=True)
    mask, heads = seen_by(kind, 3, 5), 2
    torch.manual_seed(5)
    ours = SelfAttention.apply(qkv, mask, heads, p)  # type: ignore[no-untyped-call]
    torch.manual_seed(5)
    kept = -draw_kept(torch.Size((3 * heads, 5, 5)), p).double().view(3, heads, 5, 5) if p else torch.ones(())
    query, key, value = qkv.view(3, 5, 3, heads, 4).permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-2, -1) / math.sqrt(4)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    formula = (torch.softmax(scores, dim=-1) * kept / (1 - p)) @ value
    theirs = formula.transpose(1, 2).flatten(2)
    assert gap(ours, theirs) < 1e-12
    direction = torch.randn(ours.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad(one, qkv, direction)[0] for one in (ours, theirs)]
    assert float(gradients[1].abs().max()) > 0.1
    assert gap(*gradients) < 1e-12


def test_in_bfloat16_the_written_out_gradient_is_as_near_as_autograds() -> None:
    exact, heads = torch.randn(4, 27, 3 * 48, dtype=torch.float64), 4
    mask, direction = seen_by("padded", 4, 27), torch.randn(4, 27, 48, dtype=torch.float64)

    def by_autograd(qkv: Tensor) -> Tensor:
        query, key, value = qkv.view(4, 27, 3, heads, 12).permute(2, 0, 3, 1, 4)
        return dropout_attention(query, key, value, mask, 0.0).transpose(1, 2).flatten(2)

    def written_out(qkv: Tensor) -> Tensor:
        attended: Tensor = SelfAttention.apply(qkv, mask, heads, 0.0)  # type: ignore[no-untyped-call]
        return attended

    def gradient(way: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        qkv = exact.to(torch.bfloat16).to(dtype).requires_grad_()
        return torch.autograd.grad(way(qkv), qkv, direction.to(torch.bfloat16).to(dtype))[0].double()

    true = gradient(by_autograd, torch.float64)
    ours, theirs = (gap(gradient(way, torch.bfloat16), true) for way in (written_out, by_autograd))
    assert 0 < ours < 1.5 * theirs
    assert ours < 0.02 * float(true.abs().max())


def test_the_gradient_of_attention_is_what_small_changes_show() -> None:
    qkv = torch.randn(2, 4, 3 * 6, dtype=torch.float64, requires_grad=True)
    mask = seen_by("padded", 2, 4)
    assert torch.autograd.gradcheck(lambda given: SelfAttention.apply(given, mask, 3, 0.0), [qkv])  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_in_training_keeps_the_number_format_under_autocast(dtype: torch.dtype) -> None:
    attention = MultiHeadAttention(16, 4, dropout=0.2).train()
    hidden = torch.randn(2, 6, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        mixed = attention(hidden, None)
    assert mixed.dtype == dtype
    mixed.float().square().sum().backward()
    assert attention.qkv.weight.grad is not None
    assert attention.qkv.weight.grad.dtype == torch.float32
    assert bool(attention.qkv.weight.grad.isfinite().all())
    assert float(attention.qkv.weight.grad.abs().max()) > 0


def test_a_text_that_asks_itself_with_dropout_takes_the_written_out_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any number format. All other ways stay as they are: evaluation, no dropout, one token that asks."""
    taken: list[float] = []
    real = SelfAttention.apply

    def watched(*given: object) -> object:
        taken.append(given[-1])  # type: ignore[arg-type]
        return real(*given)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(SelfAttention, "apply", watched)
    hidden = torch.randn(2, 6, 16)
    attention = MultiHeadAttention(16, 4, dropout=0.2)
    attention.eval()(hidden, None)
    attention.train()(hidden, None, num_asking=1)
    MultiHeadAttention(16, 4, dropout=0.0).train()(hidden, None)
    MultiHeadAttention(16, 4, dropout=0.2, cross=True).train()(hidden, None, hidden)
    assert not taken
    attention(hidden, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention(hidden, None)
    assert taken == [0.2, 0.2]


@few
@given(config=configs("encoder"), rows=texts(), seed=st.integers(0, 99))
def test_the_first_token_alone_equals_the_first_of_all(
    config: TransformerConfig, rows: list[list[int]], seed: int
) -> None:
    model, batch = random_model(config, seed), pad_ids(rows, 0)
    assert gap(model.body.first_token(batch), model.body(batch)[:, 0]) < 1e-4
