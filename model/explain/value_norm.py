"""How long the vector is that attention carries, not only how large its weight (Kobayashi et al. 2020).

A head adds alpha_ij f(x_j) to token i, with f(x) = (x W^V + b^V) W^O, W^O being the head's rows of the output
projection. A large weight on a short vector, as on [SEP], moves little. Used by `attention.py`.
Shapes: L layers, H heads, T tokens, D width, K head width.
"""

import torch
from torch import Tensor

from model.attention import MultiHeadAttention
from model.layers import EncoderLayer
from model.transformer import Encoder, Trace


def value_norms(stack: Encoder, trace: Trace) -> Tensor:
    """The lengths ||f(x_j)|| of one text -> float32 [L, H, T]; times alpha_ij they are ||alpha_ij f(x_j)||.

    `trace` holds the hidden states [1, T, D] of this text, which is not padded.
    """
    layers = []
    for layer, hidden in zip(stack.layers, trace.hidden, strict=False):  # the last hidden state feeds no layer
        assert isinstance(layer, EncoderLayer)
        states = layer.attention_norm(hidden) if layer.norm_first else hidden
        layers.append(transformed(layer.attention, states).norm(dim=-1))
    return torch.stack(layers)


def transformed(attention: MultiHeadAttention, states: Tensor) -> Tensor:
    """f of each head: what enters the attention [1, T, D] -> float32 [H, T, D].

    Through the projections as they stand, adapters included: each head's values go in alone, zeros in the places of
    the others, and the output's bias, which belongs to no head, is taken off.
    """
    heads, width = attention.num_heads, states.size(-1)
    value = attention.qkv(states)[0, :, 2 * width :]  # [T, D]
    own = torch.eye(heads, dtype=torch.bool, device=value.device).repeat_interleave(width // heads, dim=1)  # [H, D]
    alone = value * own[:, None, :]  # [H, T, D]
    bias = attention.output(torch.zeros_like(alone[:1, :1]))  # [1, 1, D]
    moved: Tensor = attention.output(alone).float() - bias.float()
    return moved
