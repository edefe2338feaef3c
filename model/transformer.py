"""The encoder: embeddings, then a stack of layers. Used by `heads.py`.

Shapes: B batch, T tokens, H heads, D width, L layers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.batch import Batch
from model.config import TransformerConfig
from model.layers import EncoderLayer
from model.positions import LearnedPositions, SinusoidalPositions


@dataclass(frozen=True)
class EncoderTrace:
    """What the probability path saw: hidden states of every layer and every attention probability."""

    hidden: list[Tensor]  # L + 1 tensors [B, T, D]: the embeddings, then each layer's output
    probabilities: list[Tensor]  # L tensors [B, H, T, T], rows sum to 1


class Embeddings(nn.Module):
    """Token + position (+ segment) embeddings, normalised and dropped out as the config says."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.width, padding_idx=config.pad_id)
        self.position: nn.Module = (
            LearnedPositions(config.max_positions, config.width)
            if config.positions == "learned"
            else SinusoidalPositions(config.max_positions, config.width)
        )
        self.segment = nn.Embedding(config.num_segments, config.width) if config.num_segments else None
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if config.norm_embeddings else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.scale = math.sqrt(config.width) if config.scale_embeddings else 1.0

    def forward(self, batch: Batch) -> Tensor:
        """Batch of token ids [B, T] -> vectors [B, T, D]."""
        position_ids = torch.arange(batch.ids.size(1), device=batch.ids.device)[None, :]  # [1, T]
        summed = self.token(batch.ids) * self.scale + self.position(position_ids)
        if self.segment is not None:
            summed = summed + self.segment(batch.segments)
        embedded: Tensor = self.dropout(self.norm(summed))
        return embedded


class Encoder(nn.Module):
    """The encoder of the original paper (section 3.1), bidirectional: each token sees every real token."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))

    def forward(self, batch: Batch) -> Tensor:
        """Fused path: batch of ids [B, T] -> last hidden states [B, T, D]; padding rows hold no meaning."""
        mask = batch.attention_mask()
        hidden: Tensor = self.embeddings(batch)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden

    def trace(self, batch: Batch) -> EncoderTrace:
        """Probability path: the same numbers, with all that is in between."""
        mask = batch.attention_mask()
        hidden: list[Tensor] = [self.embeddings(batch)]
        probabilities: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            output, weights = layer.forward_with_probabilities(hidden[-1], mask)
            hidden.append(output)
            probabilities.append(weights)
        return EncoderTrace(hidden, probabilities)
