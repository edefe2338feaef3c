"""The sub-layers of a Transformer block and how they are wired. Used by `transformer.py`.

Every sub-layer has a residual connection and a LayerNorm around it: LayerNorm(x + SubLayer(x)) in the original paper
(post-LN), x + SubLayer(LayerNorm(x)) in GPT-2 (pre-LN).
Shapes: B batch, T tokens, S memory tokens, N tokens of unpadded documents, D width, F feed-forward width.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import MultiHeadAttention
from model.batch import Unpadded
from model.cache import LayerCache
from model.config import TransformerConfig
from model.dropout import Dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}
# the same over their input, which training still needs afterwards: memory that is warm in place of fresh
ACTIVATIONS_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": torch.ops.aten.gelu_,
    "gelu_tanh": partial(torch.ops.aten.gelu_, approximate="tanh"),
}
Record = list[Tensor]  # attention probabilities [B, H, T, S], one tensor a layer


def _sum(hidden: Tensor, change: Tensor) -> Tensor:
    """Over the change, which nobody else has, where no gradient needs it."""
    return hidden + change if torch.is_grad_enabled() else change.add_(hidden)


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2, formula (2) of Vaswani et al. 2017; BERT and GPT-2 use GELU for max(0, .)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.width, config.feed_forward_width)  # W1, b1
        self.contract = nn.Linear(config.feed_forward_width, config.width)  # W2, b2
        self.activation = ACTIVATIONS[config.activation]
        self.activation_in_place = ACTIVATIONS_IN_PLACE[config.activation]

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [B, T, D] -> [B, T, D], each position by itself, through [B, T, F]."""
        activate = self.activation if torch.is_grad_enabled() else self.activation_in_place
        contracted: Tensor = self.contract(activate(self.expand(hidden)))
        return contracted


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network, each within its residual connection and LayerNorm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_first = config.norm_first
        self.attention = MultiHeadAttention(config.width, config.num_heads, config.dropout)
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.dropout = Dropout(config.dropout)

    def _residual(self, hidden: Tensor, norm: nn.Module, sub_layer: Callable[[Tensor], Tensor]) -> Tensor:
        """hidden [B, T, D] -> [B, T, D]: the sub-layer's output added to its input, normalised before or after."""
        if self.norm_first:
            return _sum(hidden, self.dropout(sub_layer(norm(hidden))))
        finished: Tensor = norm(_sum(hidden, self.dropout(sub_layer(hidden))))
        return finished

    def first_token(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """hidden [B, T, D]; mask bool [B, 1, 1, T] -> [B, 1, D]: what `forward` gives for the first token, which asks
        all others; a last layer whose other outputs nobody reads costs a third of a whole one."""
        states = self.attention_norm(hidden) if self.norm_first else hidden
        attended = self.dropout(self.attention(states, mask, num_asking=1))
        first = hidden[:, :1] + attended
        first = first if self.norm_first else self.attention_norm(first)
        return self._residual(first, self.feed_forward_norm, self.feed_forward)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, cache: LayerCache | None = None, record: Record | None = None
    ) -> Tensor:
        """hidden [B, T, D]; mask bool [B, 1, 1 or T, T], True = may attend. Returns [B, T, D].

        With a `record` the probability path is taken, and its probabilities [B, H, T, T] are appended to it.
        """
        attend = partial(attend_by, self.attention, mask, None, cache, record)
        hidden = self._residual(hidden, self.attention_norm, attend)
        return self._residual(hidden, self.feed_forward_norm, self.feed_forward)

    def forward_unpadded(self, hidden: Tensor, documents: Unpadded, causal: bool) -> Tensor:
        """hidden [N, D] -> [N, D]: the numbers of `forward` for documents without padding."""
        attend = partial(self.attention.forward_unpadded, documents=documents, causal=causal)
        hidden = self._residual(hidden, self.attention_norm, attend)
        return self._residual(hidden, self.feed_forward_norm, self.feed_forward)

    def first_tokens_unpadded(self, hidden: Tensor, documents: Unpadded) -> Tensor:
        """hidden [N, D] -> [B, D]: what `forward_unpadded` gives for the first token of each document."""
        states = self.attention_norm(hidden) if self.norm_first else hidden
        first = hidden[documents.starts[:-1]] + self.attention.first_tokens_unpadded(states, documents)
        first = first if self.norm_first else self.attention_norm(first)
        return self._residual(first, self.feed_forward_norm, self.feed_forward)


class DecoderLayer(EncoderLayer):
    """An encoder layer with cross-attention between its two sub-layers: the decoder asks the encoder's output."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.cross_attention = MultiHeadAttention(config.width, config.num_heads, config.dropout, cross=True)
        self.cross_attention_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)

    def forward(  # type: ignore[override]
        self,
        hidden: Tensor,
        mask: Tensor | None,
        memory: Tensor | None,
        memory_mask: Tensor | None,
        cache: LayerCache | None = None,
        record: Record | None = None,
        cross_record: Record | None = None,
    ) -> Tensor:
        """hidden [B, T, D] with mask as above; memory [B, S, D], memory_mask bool [B, 1, 1, S]. Returns [B, T, D].

        `memory` may be left out when the cache holds its keys and values already.
        """
        attend = partial(attend_by, self.attention, mask, None, cache, record)
        hidden = self._residual(hidden, self.attention_norm, attend)
        ask = partial(attend_by, self.cross_attention, memory_mask, memory, cache, cross_record)
        hidden = self._residual(hidden, self.cross_attention_norm, ask)
        return self._residual(hidden, self.feed_forward_norm, self.feed_forward)


def attend_by(
    attention: MultiHeadAttention,
    mask: Tensor | None,
    memory: Tensor | None,
    cache: LayerCache | None,
    record: Record | None,
    hidden: Tensor,
) -> Tensor:
    """One attention sub-layer by the path the caller wants: fused, or with its probabilities put on record."""
    if record is None:
        fused: Tensor = attention(hidden, mask, memory, cache)
        return fused
    mixed, probabilities = attention.forward_with_probabilities(hidden, mask, memory, cache)
    record.append(probabilities)
    return mixed
