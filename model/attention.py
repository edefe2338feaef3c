"""Scaled dot-product and multi-head attention (Vaswani et al. 2017, section 3.2). Used by `layers.py`.

Two paths over the same weights and masks: the fused one is fast and gives no probabilities; the probability
path writes the formula out and returns them. A test holds them equal.
Shapes: B batch, T tokens that ask, S tokens that are asked (S = T in self-attention), H heads, D width,
K head width (D = H * K), N tokens of unpadded documents.
"""

import math
from functools import cache
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from model.batch import Unpadded
from model.cache import LayerCache
from model.capability import attends_by_products, attends_in_float32
from model.dropout import clear, draw_kept, drop
from model.script import as_script


@cache
def varlen() -> Any:
    """Attention over documents end to end; None where torch has none (before 2.10). Loaded when a GPU first needs it,
    for it brings torch's compiler, which takes as long to load as torch itself."""
    try:
        return import_module("torch.nn.attention.varlen")
    except ImportError:
        return None


def attends_by_starts(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether documents without padding are attended to by FlashAttention, which a tensor tells where each begins. Else
    a block of documents of one length is attended to at a time, which only Python knows. FlashAttention is for GPUs and
    knows no number format of more than 16 bits."""
    return device.type == "cuda" and dtype.itemsize == 2 and varlen() is not None


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(d_k)) V, formula (1) of the paper, as written there.

    query: [B, H, T, K]; key, value: [B, H, S, K]. mask: bool, broadcastable to [B, H, T, S], True = may attend; every
    row needs at least one True. Returns the mixed values [B, H, T, K] and the probabilities [B, H, T, S] in float32,
    whose rows sum to 1 (before dropout).
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # [B, H, T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = torch.softmax(scores.float(), dim=-1)  # [B, H, T, S]
    return drop(probabilities, dropout).to(value.dtype) @ value, probabilities


def dropout_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """The same in training, where few ask or another text is asked, without the probabilities: kept in the inputs' own
    dtype, each step a single pass.

    torch's fused kernel for CPUs knows no dropout, and what it falls back on costs more
    (benchmarks/results/dropout.md).
    """
    scores = (query / math.sqrt(query.size(-1))) @ key.transpose(-2, -1)  # [B, H, T, S]
    if mask is not None:
        scores = scores.masked_fill_(~mask, float("-inf"))
    return drop(torch.softmax(scores, dim=-1).to(value.dtype), dropout) @ value


class SelfAttention(torch.autograd.Function):
    """The same in training, of a whole text that asks itself, with its gradient written out: from the joined
    projections to the joined heads, which saves copies and passes. With S = Q K^T / sqrt(d_k), P = softmax(S), E what
    dropout multiplies each probability by, and * element by element, O = (P * E) V has

        dV = (P * E)^T dO
        dP = (dO V^T) * E
        dS = P * (dP - D), where D has the sum of dP * P over the tokens that are asked
        dQ = dS K / sqrt(d_k)
        dK = dS^T Q / sqrt(d_k)
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, mask: Tensor | None, num_heads: int, dropout: float) -> Tensor:
        """qkv [B, T, 3D], mask bool [B, 1, 1 or T, T] -> [B, T, D]."""
        batch, tokens, width = qkv.shape
        ctx.shape = batch, num_heads, tokens, width // 3 // num_heads  # B, H, T, K
        ctx.scale, ctx.dropout = ctx.shape[-1] ** -0.5, dropout
        with torch.autocast("cpu", enabled=False):  # in the number format of what is given
            by_head = qkv.reshape(batch, tokens, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
            heads = by_head.reshape(3, batch * num_heads, tokens, -1)
            query, key, value = heads
            scores = torch.bmm(query, key.transpose(1, 2)).mul_(ctx.scale)  # [B * H, T, T]
            if mask is not None:
                scores.view(batch, num_heads, tokens, tokens).masked_fill_(~mask, float("-inf"))
            used = probabilities = torch.softmax(scores, dim=-1)
            kept = None
            if dropout:
                kept = draw_kept(scores.shape, dropout)
                used = clear(probabilities, kept).mul_(1.0 / (1.0 - dropout))
            ctx.save_for_backward(heads, probabilities, used, kept)
            return torch.bmm(used, value).view(ctx.shape).transpose(1, 2).reshape(batch, tokens, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        heads, probabilities, used, kept = ctx.saved_tensors
        query, key, value = heads
        batch, num_heads, tokens, size = ctx.shape
        with torch.autocast("cpu", enabled=False):
            mixed = gradients[0].reshape(batch, tokens, num_heads, size).transpose(1, 2).reshape(-1, tokens, size)
            found = torch.empty_like(heads)
            torch.bmm(used.transpose(1, 2), mixed, out=found[2])
            asked = torch.bmm(mixed, value.transpose(1, 2))  # dP, [B * H, T, T]
            if kept is not None:
                asked = clear(asked, kept).mul_(1.0 / (1.0 - ctx.dropout))
            scores = torch._softmax_backward_data(asked, probabilities, -1, probabilities.dtype).mul_(ctx.scale)
            torch.bmm(scores, key, out=found[0])
            torch.bmm(scores.transpose(1, 2), query, out=found[1])
        by_head = found.view(3, batch, num_heads, tokens, size)
        return by_head.permute(1, 3, 0, 2, 4).reshape(batch, tokens, -1), None, None, None


@as_script
def stretch_attention(
    qkv: Tensor, stretches: Tensor, num_heads: int, causal: bool, widened: bool, by_products: bool
) -> Tensor:
    """Each document by itself, those of one length at a time: qkv [N, 3D], stretches [S, 2] as `Unpadded` has them ->
    mixed values [N, D]. Widened, bfloat16 is attended in float32; by products, documents of some lengths are attended
    by what `scaled_dot_product_attention` writes out."""
    width = qkv.size(-1) // 3
    mixed = torch.empty([qkv.size(0), width], dtype=qkv.dtype, device=qkv.device)
    table: list[list[int]] = stretches.tolist()
    start = 0
    for documents, length in table:
        end = start + documents * length
        block = qkv[start:end].float() if widened and qkv.dtype == torch.bfloat16 else qkv[start:end]
        heads = block.view(documents, length, 3, num_heads, width // num_heads).permute(2, 0, 3, 1, 4)
        if by_products and not causal and 16 < length < 48:
            each = heads.reshape(3, documents * num_heads, length, width // num_heads)
            scores = torch.bmm(each[0], each[1].transpose(1, 2)).mul_((width // num_heads) ** -0.5)
            attended = torch.bmm(torch.softmax(scores, dim=-1), each[2]).view(heads.shape[1:])  # [B, H, T, K]
        else:
            attended = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=causal)
        mixed[start:end] = attended.transpose(1, 2).reshape(end - start, width)
        start = end
    return mixed


@as_script
def first_stretch_attention(qkv: Tensor, stretches: Tensor, num_heads: int) -> Tensor:
    """The same where the first token of each document alone asks -> [B, D], one row a document."""
    width = qkv.size(-1) // 3
    table: list[list[int]] = stretches.tolist()
    mixed: list[Tensor] = []
    start = 0
    for documents, length in table:
        end = start + documents * length
        block = qkv[start:end].view(documents, length, 3, num_heads, width // num_heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(block[0][:, :, :1], block[1], block[2])  # [B, H, 1, K]
        mixed.append(attended.reshape(documents, width))
        start = end
    return torch.cat(mixed)


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    Self-attention asks its own tokens; cross-attention asks `memory`, the encoder's output. The matrices that read the
    same input are one (query rows first, then key, then value): one larger product instead of three is measurably
    faster and the same arithmetic.
    """

    def __init__(self, width: int, num_heads: int, dropout: float, cross: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.cross = cross
        if cross:
            self.query = nn.Linear(width, width)  # W^Q, [D, D]
            self.key_value = nn.Linear(width, 2 * width)  # W^K and W^V, [2D, D]
        else:
            self.qkv = nn.Linear(width, 3 * width)  # W^Q, W^K and W^V, [3D, D]
        self.output = nn.Linear(width, width)  # W^O, [D, D]

    def _split(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, T, parts * D] -> `parts` tensors [B, H, T, K]."""
        batch, tokens, width = projected.shape
        heads = projected.view(batch, tokens, parts, self.num_heads, width // parts // self.num_heads)
        return heads.permute(2, 0, 3, 1, 4).unbind(0)

    def _project(
        self, hidden: Tensor, memory: Tensor | None, cache: LayerCache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not self.cross:
            query, key, value = self._split(self.qkv(hidden), 3)
            return (query, key, value) if cache is None else (query, *cache.extend(key, value))
        (query,) = self._split(self.query(hidden), 1)
        if cache is not None and cache.memory is not None:
            return query, *cache.memory
        assert memory is not None, "cross-attention needs the encoder's output"
        key, value = self._split(self.key_value(memory), 2)
        if cache is not None:
            cache.memory = (key, value)
        return query, key, value

    def _output(self, mixed: Tensor) -> Tensor:
        joined: Tensor = self.output(mixed)
        return joined

    def _join(self, mixed: Tensor) -> Tensor:
        return self._output(mixed.transpose(1, 2).flatten(2))  # [B, H, T, K] -> [B, T, D]

    def _is_written_out(self, qkv: Tensor) -> bool:
        """Whether a text that asks itself is for `SelfAttention`: in training on a CPU, with dropout."""
        return qkv.device.type == "cpu" and self.training and self.dropout > 0.0

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        memory: Tensor | None = None,
        cache: LayerCache | None = None,
        num_asking: int | None = None,
    ) -> Tensor:
        """Fused path. hidden [B, T, D]; memory [B, S, D] for cross-attention; mask bool [B, 1, 1 or T, S], True = may
        attend. With a cache, S counts the tokens it holds, the new ones included. Returns [B, T, D]; with `num_asking`
        the first so many tokens alone ask, T of the mask and of the result being that number."""
        if not self.cross and cache is None and num_asking is None:
            qkv = self.qkv(hidden)
            if self._is_written_out(qkv):
                attended: Tensor = SelfAttention.apply(qkv, mask, self.num_heads, self.dropout)  # type: ignore[no-untyped-call]
                return self._output(attended)
            query, key, value = self._split(qkv, 3)
        else:
            query, key, value = self._project(hidden, memory, cache)
        query = query[:, :, :num_asking]
        if self.training and self.dropout and query.device.type == "cpu":
            return self._join(dropout_attention(query, key, value, mask, self.dropout))
        dropout = self.dropout if self.training else 0.0
        return self._join(F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout))

    def forward_unpadded(self, hidden: Tensor, documents: Unpadded, causal: bool) -> Tensor:
        """Self-attention of each document by itself, for inference: hidden [N, D] -> [N, D], the numbers of `forward`
        without its padding and its mask."""
        qkv = self.qkv(hidden)  # [N, 3D]
        if attends_by_starts(qkv.device, qkv.dtype):
            query, key, value = qkv.unflatten(-1, (3, self.num_heads, -1)).unbind(1)  # [N, H, K] each
            starts, longest = documents.starts, documents.max_length
            window = (-1, 0) if causal else (-1, -1)
            mixed = varlen().varlen_attn(query, key, value, starts, starts, longest, longest, window_size=window)
            return self._output(mixed.flatten(1))
        ways = attends_in_float32(qkv.device), attends_by_products(qkv.device)
        return self._output(stretch_attention(qkv, documents.stretches, self.num_heads, causal, *ways))

    def first_tokens_unpadded(self, hidden: Tensor, documents: Unpadded) -> Tensor:
        """The same for the first token of each document alone: hidden [N, D] -> [B, D]."""
        return self._output(first_stretch_attention(self.qkv(hidden), documents.stretches, self.num_heads))

    def forward_with_probabilities(
        self, hidden: Tensor, mask: Tensor | None, memory: Tensor | None = None, cache: LayerCache | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probability path, same inputs. Returns [B, T, D] and the probabilities [B, H, T, S]."""
        query, key, value = self._project(hidden, memory, cache)
        dropout = self.dropout if self.training else 0.0
        mixed, probabilities = scaled_dot_product_attention(query, key, value, mask, dropout)
        return self._join(mixed), probabilities
