"""The two sub-layers of a Transformer block and how they are wired. Used by `transformer.py`.

Shapes: B batch, T tokens, D width, F feed-forward width.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import MultiHeadAttention
from model.config import TransformerConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2, formula (2) of Vaswani et al. 2017; BERT uses GELU for max(0, .)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.width, config.feed_forward_width)
        self.contract = nn.Linear(config.feed_forward_width, config.width)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [B, T, D] -> [B, T, D], each position by itself, through [B, T, F]."""
        contracted: Tensor = self.contract(self.activation(self.expand(hidden)))
        return contracted


class EncoderLayer(nn.Module):
    """Post-LN block, as in the original paper: x = LayerNorm(x + Dropout(SubLayer(x))), for each sub-layer."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config.width, config.num_heads, config.dropout)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def _finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = self.attention_norm(hidden + self.dropout(attended))
        finished: Tensor = self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden)))
        return finished

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """hidden [B, T, D]; mask bool [B, 1, 1 or T, T], True = may attend. Returns [B, T, D]."""
        return self._finish(hidden, self.attention(hidden, mask))

    def forward_with_probabilities(self, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same block by the probability path: [B, T, D] and the probabilities [B, H, T, T]."""
        attended, probabilities = self.attention.forward_with_probabilities(hidden, mask)
        return self._finish(hidden, attended), probabilities
