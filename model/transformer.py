"""The stacks: encoder, causal decoder, and the two of them as the encoder-decoder of the paper. Used by `heads.py`.

Shapes: B batch, T tokens, S source tokens, N tokens of unpadded documents, H heads, D width, L layers.
"""

import math
from dataclasses import dataclass, field

from torch import Tensor, nn

from model.batch import Batch, Unpadded
from model.cache import Cache
from model.config import TransformerConfig
from model.dropout import Dropout
from model.layers import DecoderLayer, EncoderLayer, Record
from model.positions import LearnedPositions, SinusoidalPositions


@dataclass(frozen=True)
class Trace:
    """What the probability path saw: hidden states of every layer and every attention probability."""

    hidden: list[Tensor] = field(default_factory=list)  # L + 1 tensors [B, T, D]: embeddings, then each layer's output
    probabilities: Record = field(default_factory=list)  # L tensors [B, H, T, T], rows sum to 1
    cross_probabilities: Record = field(default_factory=list)  # L tensors [B, H, T, S] of an encoder-decoder


class Embeddings(nn.Module):
    """Token + position (+ segment) embeddings, normalised and dropped out as the config says."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.offset = config.position_offset
        rows = config.max_positions + config.position_offset
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.position: nn.Module = (
            LearnedPositions(rows, config.width)
            if config.positions == "learned"
            else SinusoidalPositions(rows, config.width)
        )
        self.segment = nn.Embedding(config.num_segments, config.width) if config.num_segments else None
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if config.norm_embeddings else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.scale = math.sqrt(config.width) if config.scale_embeddings else 1.0

    def forward(self, ids: Tensor, positions: Tensor, segments: Tensor | None = None) -> Tensor:
        """Token ids [B, T] or [N], their positions and segments -> vectors [B, T, D] or [N, D]."""
        return self.around(self.token(ids), positions, segments)

    def around(self, tokens: Tensor, positions: Tensor, segments: Tensor | None = None) -> Tensor:
        """The same from token vectors [B, T, D] or [N, D] in the place of what the ids would look up."""
        summed = tokens * self.scale + self.position(positions + self.offset)
        if self.segment is not None and segments is not None:
            summed = summed + self.segment(segments.clamp_max(self.segment.num_embeddings - 1))  # RoBERTa has one
        embedded: Tensor = self.dropout(self.norm(summed))
        return embedded


def _last_norm(config: TransformerConfig) -> nn.Module:
    """Pre-LN leaves the last layer's sum unnormalised, so one LayerNorm follows it."""
    return nn.LayerNorm(config.width, eps=config.norm_epsilon) if config.norm_first else nn.Identity()


class Encoder(nn.Module):
    """A stack of encoder layers. Bidirectional: each token sees every real token of its document (section 3.1)."""

    causal = False

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.norm = _last_norm(config)

    def forward(self, batch: Batch, cache: Cache | None = None, trace: Trace | None = None) -> Tensor:
        """Batch of ids [B, T] -> last hidden states [B, T, D]; padding rows hold no meaning.

        With a `trace` the probability path is taken and everything in between is put there.
        """
        if cache is None:
            mask, positions = batch.attention_mask(self.causal), batch.positions
        else:
            mask, positions = cache.begin(batch.ids.size(1)), cache.positions(batch.ids.size(1))
        hidden: Tensor = self.embeddings(batch.ids, positions, batch.segments)
        hidden = self._through_layers(hidden, mask, cache, trace)
        if cache is not None:
            cache.advance(batch.real.sum(dim=1))
        return hidden

    def forward_embedded(self, embedded: Tensor, batch: Batch, trace: Trace | None = None) -> Tensor:
        """The same from vectors [B, T, D] that stand in the place of the batch's own embeddings: for what changes them,
        or asks how the answer depends on them."""
        return self._through_layers(embedded, batch.attention_mask(self.causal), None, trace)

    def _through_layers(self, hidden: Tensor, mask: Tensor | None, cache: Cache | None, trace: Trace | None) -> Tensor:
        record = None
        if trace is not None:
            record = trace.probabilities
            trace.hidden.append(hidden)
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, mask, None if cache is None else cache.layers[index], record)
            if trace is not None:
                trace.hidden.append(hidden)
        normalised: Tensor = self.norm(hidden)
        return normalised

    def forward_unpadded(self, documents: Unpadded) -> Tensor:
        """The same for inference, without padding: last hidden states [N, D] of the documents, in the order they
        lie."""
        hidden: Tensor = self.embeddings(documents.ids, documents.positions, documents.segments)
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            hidden = layer.forward_unpadded(hidden, documents, self.causal)
        normalised: Tensor = self.norm(hidden)
        return normalised

    def first_tokens_unpadded(self, documents: Unpadded) -> Tensor:
        """The last hidden state of each document's first token [B, D], in the order they lie: the numbers of
        `forward_unpadded`, at a lower price. For bidirectional stacks on a CPU."""
        assert not self.causal
        hidden: Tensor = self.embeddings(documents.ids, documents.positions, documents.segments)
        *before, last = self.layers
        for layer in before:
            assert isinstance(layer, EncoderLayer)
            hidden = layer.forward_unpadded(hidden, documents, self.causal)
        assert isinstance(last, EncoderLayer)
        normalised: Tensor = self.norm(last.first_tokens_unpadded(hidden, documents))
        return normalised

    def first_token(self, batch: Batch) -> Tensor:
        """Batch of ids [B, T], not packed -> the last hidden state of each row's first token [B, D]: the numbers of
        `forward`, at a lower price. For bidirectional stacks."""
        assert not self.causal
        assert not batch.packed
        mask = batch.attention_mask()
        hidden: Tensor = self.embeddings(batch.ids, batch.positions, batch.segments)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, mask)
        last = self.layers[-1]
        assert isinstance(last, EncoderLayer)
        normalised: Tensor = self.norm(last.first_token(hidden, mask))
        return normalised[:, 0]

    def trace(self, batch: Batch) -> Trace:
        """Probability path: the same numbers, with all that is in between."""
        trace = Trace()
        self(batch, trace=trace)
        return trace


class Decoder(Encoder):
    """The same stack made causal: a token sees itself and what came before it (GPT-2, Radford et al. 2019)."""

    causal = True

    def new_cache(self, batch: int) -> Cache:
        return Cache(self.config.num_layers, batch, self.embeddings.token.weight.device)


class CrossDecoder(nn.Module):
    """The decoder of the paper: causal self-attention, and cross-attention to the encoder's output (section 3.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        self.norm = _last_norm(config)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        memory: Tensor | None,
        memory_mask: Tensor | None,
        cache: Cache | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Embedded target [B, T, D] with its mask; memory [B, S, D] with memory_mask [B, 1, 1, S] -> [B, T, D]."""
        records: tuple[Record | None, Record | None] = (None, None)
        if trace is not None:
            records = (trace.probabilities, trace.cross_probabilities)
            trace.hidden.append(hidden)
        for index, layer in enumerate(self.layers):
            layer_cache = None if cache is None else cache.layers[index]
            hidden = layer(hidden, mask, memory, memory_mask, layer_cache, *records)
            if trace is not None:
                trace.hidden.append(hidden)
        normalised: Tensor = self.norm(hidden)
        return normalised


class EncoderDecoder(nn.Module):
    """The Transformer of the paper: an encoder that reads the source, a decoder that writes the target.

    Both use one embedding (section 3.4), which lives in the encoder.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = CrossDecoder(config)

    @property
    def embeddings(self) -> Embeddings:
        return self.encoder.embeddings

    def read(self, source: Batch) -> tuple[Tensor, Tensor]:
        """Source ids [B, S] -> memory [B, S, D] and its mask bool [B, 1, 1, S]."""
        return self.encoder(source), source.real[:, None, None, :]

    def write(
        self,
        target: Batch,
        memory: Tensor | None,
        memory_mask: Tensor | None,
        cache: Cache | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Target ids [B, T] and what `read` gave -> the decoder's last hidden states [B, T, D].

        With a cache whose first step has been made, `memory` may be None: the cache holds its keys and values.
        """
        if cache is None:
            mask, positions = target.attention_mask(causal=True), target.positions
        else:
            mask, positions = cache.begin(target.ids.size(1)), cache.positions(target.ids.size(1))
            if memory is not None:
                cache.memory_mask = memory_mask
            memory_mask = cache.memory_mask
        hidden: Tensor = self.decoder(self.embeddings(target.ids, positions), mask, memory, memory_mask, cache, trace)
        if cache is not None:
            cache.advance(target.real.sum(dim=1))
        return hidden

    def forward(self, source: Batch, target: Batch, trace: Trace | None = None) -> Tensor:
        """Source [B, S] and target [B, T] ids, neither packed -> the decoder's last hidden states [B, T, D]."""
        return self.write(target, *self.read(source), trace=trace)

    def new_cache(self, batch: int) -> Cache:
        return Cache(self.config.num_layers, batch, self.embeddings.token.weight.device)
