"""Attention without padding: each way that the hardware may be asked for gives what the formula gives."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.attention import scaled_dot_product_attention, stretch_attention
from tests.small import few, gap


@few
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6), dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    causal=st.booleans(), widened=st.booleans(), by_products=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_way_to_attend_without_padding_is_the_formula(
    lengths: list[int], dtype: torch.dtype, causal: bool, widened: bool, by_products: bool, seed: int
) -> None:
    stretches = torch.tensor([[2, length] for length in lengths])
    total, heads = 2 * sum(lengths), 3
    qkv = torch.randn(total, 3 * heads * 8, generator=torch.Generator().manual_seed(seed)).to(dtype)
    found = stretch_attention(qkv, stretches, heads, causal, widened, by_products)
    assert found.dtype == dtype
    start = 0
    for length in [length for length in lengths for _ in range(2)]:
        own = qkv[start : start + length].double().view(1, length, 3, heads, 8).permute(2, 0, 3, 1, 4)
        mask = torch.ones(length, length, dtype=torch.bool).tril() if causal else None
        mixed, _ = scaled_dot_product_attention(own[0], own[1], own[2], mask)
        exact = mixed.transpose(1, 2).reshape(length, heads * 8)
        assert gap(found[start : start + length].double(), exact) < (1e-5 if dtype == torch.float32 else 0.05)
        start += length
