"""Reads a stack: embeddings, layers, last norm. Used by `walk.py`.

Shape letters as in `blocks.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from torch import nn

from model.attention import MultiHeadAttention
from model.diagram.blocks import Block, Dim, Kind, Section
from model.diagram.builder import Builder, Rows, position_rows
from model.diagram.measure import activation_name, features, has_adapter, linear_flops
from model.layers import DecoderLayer, EncoderLayer, FeedForward
from model.positions import LearnedPositions
from model.transformer import CrossDecoder, Decoder, Embeddings, Encoder

ADAPTED = " + adapters"


@dataclass(frozen=True)
class SubLayer:
    """Attention or feed-forward network with the LayerNorm that goes with it."""

    work: Block
    norm: Block
    norm_first: bool


def read_stack(
    build: Builder, stack: Encoder | CrossDecoder, embeddings: Embeddings, tokens: str, memory: Block | None
) -> tuple[list[Section], Block]:
    """The sections of a stack, and the block that gives its output. `memory` is the encoder's, for a `CrossDecoder`."""
    rows, top = _embeddings(build, embeddings, tokens, is_target=memory is not None)
    sections = [Section("Embeddings", tuple(rows))]
    causal = isinstance(stack, Decoder | CrossDecoder)
    first = 1
    for sub_layers, equal in groupby(_sub_layers(build, layer, tokens, causal) for layer in stack.layers):
        count = len(list(equal))
        rows, top = _layer(build, sub_layers, top, memory)
        name = f"Layer {first}" if count == 1 else f"Layers {first} to {first + count - 1}"
        sections.append(Section(name, tuple(rows), count, is_layer=True))
        first += count
    if not isinstance(stack.norm, nn.Identity):
        rows = []
        top = build.above(rows, top, build.norm("LayerNorm", stack.norm, tokens))
        sections.append(Section("Norm", tuple(rows)))
    return sections, top


def _embeddings(build: Builder, module: Embeddings, tokens: str, is_target: bool) -> tuple[Rows, Block]:
    """Token, position and segment tables, and their sum, normalised where there is a LayerNorm."""
    learned = isinstance(module.position, LearnedPositions)
    tables: list[tuple[str, str, nn.Module, str]] = [
        ("Token ids", "Token" if module.scale == 1.0 else "Token × √D", module.token,
         f"{module.token.num_embeddings:,} × D"),
        ("Positions", "Position", module.position,
         f"{position_rows(module.position):,} × D" if learned else "sines, cosines"),
    ]  # fmt: skip
    if module.segment is not None and not is_target:  # the encoder-decoder gives its target none
        tables.append(("Segments", "Segment", module.segment, f"{module.segment.num_embeddings:,} × D"))
    ids, hidden = (Dim("B"), Dim(tokens)), build.hidden(tokens)
    inputs, looked_up = [], []
    for input_name, name, table, detail in tables:
        count = build.counter.take(table)
        if is_target and count == 0 and next(table.parameters(), None) is not None:
            detail = "shared with the encoder"
        inputs.append(build.place(Block(input_name, "input", ids, ids)))
        looked_up.append(build.place(Block(name, "embedding", ids, hidden, detail, count)))
        build.join(inputs[-1], looked_up[-1])
    total = build.place(Block("Sum", "add", hidden, hidden))
    for block in looked_up:
        build.join(block, total)
    rows: Rows = [tuple(inputs), tuple(looked_up), (total,)]
    if isinstance(module.norm, nn.Identity):
        return rows, total
    return rows, build.above(rows, total, build.norm("LayerNorm", module.norm, tokens))


def _layer(build: Builder, sub_layers: Sequence[SubLayer], below: Block, memory: Block | None) -> tuple[Rows, Block]:
    """Places one layer: LayerNorm(x + SubLayer(x)), or x + SubLayer(LayerNorm(x)) when the norm goes first."""
    rows: Rows = []
    for sub_layer in sub_layers:
        entry, norm = below, sub_layer.norm
        if sub_layer.norm_first:
            below = build.above(rows, below, norm)
            add = Block("Add", "add", norm.output, norm.output)
        else:
            add = replace(norm, name="Add & Norm", kind="add_norm")
        work = build.above(rows, below, sub_layer.work)
        below = build.above(rows, work, add)
        build.join(entry, below, "residual")
        if memory is not None and work.kind == "cross_attention":
            build.join(memory, work, "memory")
    return rows, below


def _sub_layers(build: Builder, layer: nn.Module, tokens: str, causal: bool) -> tuple[SubLayer, ...]:
    """What one layer holds, in order; neighbours that are equal are drawn once."""
    assert isinstance(layer, EncoderLayer)
    name = "Masked multi-head attention" if causal else "Multi-head attention"
    parts = [(_attention(build, layer.attention, name, tokens), layer.attention_norm)]
    if isinstance(layer, DecoderLayer):
        cross = _attention(build, layer.cross_attention, "Multi-head cross-attention", tokens, is_cross=True)
        parts.append((cross, layer.cross_attention_norm))
    parts.append((_feed_forward(build, layer.feed_forward, tokens), layer.feed_forward_norm))
    return tuple(SubLayer(work, build.norm("LayerNorm", norm, tokens), layer.norm_first) for work, norm in parts)


def _attention(build: Builder, attention: MultiHeadAttention, name: str, tokens: str, is_cross: bool = False) -> Block:
    """Q K^T and the mixing of the values cost 2 S D each, S being the full context."""
    joined, _ = features(attention.output)
    heads, head_width = build.dim("H", attention.num_heads), build.dim("K", joined // attention.num_heads)
    shape = build.hidden(tokens)
    detail = f"{heads} heads of {head_width}{ADAPTED if has_adapter(attention) else ''}"
    flops = linear_flops(attention) + 2 * 2 * build.context * joined
    kind: Kind = "cross_attention" if is_cross else "attention"
    return Block(name, kind, shape, shape, detail, build.counter.take(attention), flops)


def _feed_forward(build: Builder, module: FeedForward, tokens: str) -> Block:
    shape = build.hidden(tokens)
    inner = build.dim("F", features(module.expand)[1])
    detail = f"D → {inner} → D, {activation_name(module)}{ADAPTED if has_adapter(module) else ''}"
    parameters = build.counter.take(module)
    return Block("Feed-forward", "feed_forward", shape, shape, detail, parameters, linear_flops(module))
