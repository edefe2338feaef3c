"""Where a token stands: the two ways of the field to add order to a set of vectors. Used by `transformer.py`.

Shapes: B batch, T tokens, D width.
"""

import math

import torch
from torch import Tensor, nn


def sinusoidal_table(num_positions: int, width: int) -> Tensor:
    """Fixed positions (Vaswani et al. 2017, section 3.5) -> [num_positions, D].

    PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos(pos / 10000^(2i/D)).
    """
    position = torch.arange(num_positions, dtype=torch.float32)[:, None]  # [num_positions, 1]
    frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))  # [D/2]
    table = torch.empty(num_positions, width)
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency)
    return table


class SinusoidalPositions(nn.Module):
    """Position vectors from sines and cosines: nothing to learn, nothing to store."""

    def __init__(self, num_positions: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoidal_table(num_positions, width), persistent=False)

    def forward(self, position_ids: Tensor) -> Tensor:
        """position_ids [B, T] -> vectors [B, T, D]."""
        return self.get_buffer("table")[position_ids]


class LearnedPositions(nn.Module):
    """One trained vector a position (BERT, Devlin et al. 2019; GPT)."""

    def __init__(self, num_positions: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_positions, width)

    def forward(self, position_ids: Tensor) -> Tensor:
        """position_ids [B, T] -> vectors [B, T, D]."""
        vectors: Tensor = self.embedding(position_ids)
        return vectors
