"""One forward pass taken apart: every step between the token ids and the answer, with its numbers. For `/v1/trace` and
the page that plays it.

The steps are made one by one from the model's own weights, as the formulas say; a test holds them to be what the model
computes. One text at a time.
Shapes: T tokens, H heads, K head width, D width, F feed-forward width, C classes, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model.batch import pad
from model.heads import TextModel, pool, widened
from model.layers import EncoderLayer
from model.tokenizer import Encoding


@dataclass(frozen=True)
class Stage:
    """One step: what it is, what it was made from, what came out."""

    name: str
    layer: int | None  # None: before the first or after the last
    inputs: tuple[str, ...]  # names of stages, of this layer where it has one of that name, else of before
    formula: str
    values: Tensor  # float32


@dataclass(frozen=True)
class Guess:
    """What a language model would say after a layer: its best tokens at each place."""

    layer: int  # 0: the embeddings, before any layer
    ids: Tensor  # [T, n] int64
    probabilities: Tensor  # [T, n] float32


def stages(model: TextModel, encoding: Encoding) -> Iterator[Stage]:
    """Every step of one text, in order. Raises ValueError for an encoder-decoder.

    Tensors: vectors [T, D]; query, key, value, mixed [H, T, K]; scores, probabilities [H, T, T]; expanded, activated
    [T, F]; text vector [D]; logits [C]. Scores that a causal model hides are -inf.
    """
    with torch.inference_mode():
        for stage in _stages(model, encoding):
            yield Stage(stage.name, stage.layer, stage.inputs, stage.formula, widened(stage.values).cpu())


def _stages(model: TextModel, encoding: Encoding) -> Iterator[Stage]:
    body, config = model.body, model.config
    batch = pad([encoding], config.pad_id).to(next(model.parameters()).device)
    embeddings = body.embeddings
    token = embeddings.token(batch.ids)[0] * embeddings.scale
    position = embeddings.position(batch.positions + embeddings.offset)[0]
    yield Stage("token", None, (), "E[id]" if embeddings.scale == 1.0 else "sqrt(D) E[id]", token)
    yield Stage("position", None, (), "P[position]", position)
    summed = token + position
    parts: tuple[str, ...] = ("token", "position")
    if embeddings.segment is not None:
        segment = embeddings.segment(batch.segments.clamp_max(embeddings.segment.num_embeddings - 1))[0]
        yield Stage("segment", None, (), "S[segment]", segment)
        summed = summed + segment
        parts = (*parts, "segment")
    yield Stage("embedding", None, parts, "sum", summed)
    hidden = summed
    if config.norm_embeddings:
        hidden = embeddings.norm(summed)
        yield Stage("hidden", None, ("embedding",), "LayerNorm(x)", hidden)
    else:
        yield Stage("hidden", None, ("embedding",), "x", hidden)
    mask = batch.attention_mask(body.causal)
    visible = None if mask is None else mask[0, 0]
    for index, layer in enumerate(body.layers):
        assert isinstance(layer, EncoderLayer)
        for stage in _layer(layer, index, hidden, visible):
            yield stage
            hidden = stage.values
    last = body.norm(hidden)
    if config.norm_first:
        yield Stage("normalised", None, ("hidden",), "LayerNorm(x)", last)
    yield from _answer(model, last[None], batch.real, "normalised" if config.norm_first else "hidden")


def _layer(layer: EncoderLayer, index: int, hidden: Tensor, visible: Tensor | None) -> Iterator[Stage]:
    """The last stage is what the layer gives, called "hidden" as what it was given."""
    attention, feed_forward = layer.attention, layer.feed_forward
    read, read_name = hidden, "hidden"
    if layer.norm_first:
        read, read_name = layer.attention_norm(hidden), "attention_input"
        yield Stage(read_name, index, ("hidden",), "LayerNorm(x)", read)
    width, heads = read.size(-1), attention.num_heads
    query, key, value = attention.qkv(read).view(-1, 3, heads, width // heads).permute(1, 2, 0, 3)  # [H, T, K] each
    yield Stage("query", index, (read_name,), "x W_Q + b_Q", query)
    yield Stage("key", index, (read_name,), "x W_K + b_K", key)
    yield Stage("value", index, (read_name,), "x W_V + b_V", value)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))  # [H, T, T]
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    yield Stage("scores", index, ("query", "key"), "Q K^T / sqrt(K)", scores)
    probabilities = torch.softmax(scores.float(), dim=-1)
    yield Stage("probabilities", index, ("scores",), "softmax", probabilities)
    mixed = probabilities.to(value.dtype) @ value  # [H, T, K]
    yield Stage("mixed", index, ("probabilities", "value"), "P V", mixed)
    attended = attention.output(mixed.transpose(0, 1).flatten(1))
    yield Stage("attended", index, ("mixed",), "Concat(heads) W_O + b_O", attended)
    between = hidden + attended
    yield Stage("attention_sum", index, ("hidden", "attended"), "x + y", between)
    read, read_name = between, "attention_sum"
    if not layer.norm_first:
        between = read = layer.attention_norm(between)
        read_name = "attention_norm"
        yield Stage(read_name, index, ("attention_sum",), "LayerNorm(x)", between)
    kept_name = read_name
    if layer.norm_first:
        read, read_name = layer.feed_forward_norm(between), "feed_forward_input"
        yield Stage(read_name, index, ("attention_sum",), "LayerNorm(x)", read)
    expanded = feed_forward.expand(read)
    yield Stage("expanded", index, (read_name,), "x W_1 + b_1", expanded)
    activated = feed_forward.activation(expanded)
    yield Stage("activated", index, ("expanded",), "f(x)", activated)
    contracted = feed_forward.contract(activated)
    yield Stage("contracted", index, ("activated",), "x W_2 + b_2", contracted)
    summed = between + contracted
    if layer.norm_first:
        yield Stage("hidden", index, (kept_name, "contracted"), "x + y", summed)
        return
    yield Stage("feed_forward_sum", index, (kept_name, "contracted"), "x + y", summed)
    yield Stage("hidden", index, ("feed_forward_sum",), "LayerNorm(x)", layer.feed_forward_norm(summed))


def _answer(model: TextModel, hidden: Tensor, real: Tensor, name: str) -> Iterator[Stage]:
    """The head: hidden [1, T, D]."""
    config = model.config
    if config.task == "tagging":
        logits = model.tag_hidden(hidden)[0]  # [T, C]
        yield Stage("logits", None, (name,), "x W + b", logits)
        yield Stage("label_probabilities", None, ("logits",), "softmax", torch.softmax(logits, dim=-1))
        return
    if config.task in ("masked_lm", "causal_lm"):
        return  # a vocabulary's worth a token: see `guesses`
    vector = pool(hidden, real, config.pooling)
    formula = {"mean": "mean of the tokens", "first": "the first token", "last": "the last token"}[config.pooling]
    yield Stage("text_vector", None, (name,), formula, vector[0])
    if not config.num_outputs:
        return
    if model.pooler is not None:
        yield Stage("pooled", None, ("text_vector",), f"{config.pooler}(x W + b)", model.pooler(vector)[0])
    logits = model.classify_pooled(vector)[0]  # [C]
    yield Stage("logits", None, ("text_vector" if model.pooler is None else "pooled",), "x W + b", logits)
    if config.task == "classification":
        yield Stage("label_probabilities", None, ("logits",), "softmax", torch.softmax(logits, dim=-1))
    elif config.task == "multi_label":
        yield Stage("label_probabilities", None, ("logits",), "sigmoid", torch.sigmoid(logits))


def guesses(model: TextModel, encoding: Encoding, count: int) -> list[Guess]:
    """The logit lens (nostalgebraist 2020): each layer's hidden states through the model's own last LayerNorm and head,
    as if no layer followed. Empty for a model that has no language-model head."""
    if model.language_model is None or model.config.task == "seq2seq":
        return []
    found = []
    with torch.inference_mode():
        trace = model.trace(pad([encoding], model.config.pad_id).to(next(model.parameters()).device))
        for layer, hidden in enumerate(trace.hidden):
            likely = torch.softmax(model.vocabulary_logits(model.body.norm(hidden[0])).float(), dim=-1)  # [T, V]
            best = likely.topk(min(count, likely.size(-1)))
            found.append(Guess(layer, best.indices.cpu(), best.values.cpu()))
    return found
