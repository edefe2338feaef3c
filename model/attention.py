"""Scaled dot-product and multi-head attention (Vaswani et al. 2017, section 3.2). Used by `layers.py`.

Two paths over the same weights and masks: the fused one is fast and gives no probabilities; the probability
path writes the formula out and returns them. A test holds them equal.
Shapes: B batch, T tokens, H heads, D width, K head width (D = H * K).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(d_k)) V, formula (1) of the paper, as written there.

    query, key, value: [B, H, T, K]. mask: bool, broadcastable to [B, H, T, T], True = may attend; every row
    needs at least one True. Returns the mixed values [B, H, T, K] and the probabilities [B, H, T, T] in float32,
    whose rows sum to 1 (before dropout).
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # [B, H, T, T]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = torch.softmax(scores.float(), dim=-1)  # [B, H, T, T]
    return F.dropout(probabilities, dropout).to(value.dtype) @ value, probabilities


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    The three input projections live in one matrix of shape [3D, D] (query rows first, then key, then value):
    one larger product instead of three is measurably faster and the same arithmetic.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def _heads(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = hidden.shape
        qkv = self.qkv(hidden).view(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, T, K]
        return query, key, value

    def _join(self, mixed: Tensor) -> Tensor:
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(2))  # [B, H, T, K] -> [B, T, D]
        return joined

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Fused path. hidden [B, T, D]; mask bool [B, 1, 1 or T, T], True = may attend. Returns [B, T, D]."""
        query, key, value = self._heads(hidden)
        dropout = self.dropout if self.training else 0.0
        return self._join(F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout))

    def forward_with_probabilities(self, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Probability path, same inputs. Returns [B, T, D] and the probabilities [B, H, T, T]."""
        query, key, value = self._heads(hidden)
        dropout = self.dropout if self.training else 0.0
        mixed, probabilities = scaled_dot_product_attention(query, key, value, mask, dropout)
        return self._join(mixed), probabilities
