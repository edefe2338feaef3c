"""The plain form of the decomposition: each source token followed forwards through the model, all at once. Takes memory
and time that `model/explain/decomposition.py` does not; its test.

Shapes: S = T source tokens, T tokens, H heads, K head width, D width, F feed-forward width, C outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import pad
from model.heads import TextModel, pool
from model.tokenizer import Encoding

NEAR_ZERO = 1e-6


def followed(model: TextModel, encoding: Encoding) -> Tensor:
    """What each token puts into each output -> [S, C]."""
    trace = model.trace(pad([encoding], model.config.pad_id))
    parts = torch.diag_embed(trace.hidden[0][0].T).permute(2, 1, 0)  # [S, T, D]: each token at its own place
    shares = torch.eye(len(encoding.ids), dtype=parts.dtype)  # [S, T]: what of a bias added at T is given to S
    for layer, probabilities in zip(model.body.layers, trace.probabilities, strict=True):
        weights = probabilities[0].to(parts)  # [H, T, T]
        attention, feed_forward = layer.attention, layer.feed_forward
        read = normalised(layer.attention_norm, parts, shares) if layer.norm_first else parts
        value = affine(attention.qkv, read, shares)[..., 2 * read.size(-1) :].unflatten(-1, (len(weights), -1))
        mixed = torch.einsum("htu,suhk->sthk", weights, value).flatten(2)  # [S, T, D]
        shares = (shares + shares @ weights.mean(dim=0).T) / 2
        parts = parts + affine(attention.output, mixed, shares)
        parts = parts if layer.norm_first else normalised(layer.attention_norm, parts, shares)
        read = normalised(layer.feed_forward_norm, parts, shares) if layer.norm_first else parts
        expanded = affine(feed_forward.expand, read, shares)  # [S, T, F]
        expanded = expanded * slope(feed_forward.activation, expanded.sum(dim=0))
        parts = parts + affine(feed_forward.contract, expanded, shares)
        parts = parts if layer.norm_first else normalised(layer.feed_forward_norm, parts, shares)
    parts = normalised(model.body.norm, parts, shares)
    if model.config.task == "causal_lm":
        return model.vocabulary_logits(parts[:, -1])
    seen = torch.ones_like(shares, dtype=torch.bool)
    vectors = pool(parts, seen, model.config.pooling)  # [S, D]
    shares = pool(shares[..., None], seen, model.config.pooling)[:, 0]  # [S]
    if model.pooler is not None:
        vectors = affine(model.pooler.dense, vectors, shares)
        vectors = vectors * slope(model.pooler.activation, vectors.sum(dim=0))
    return affine(model.classifier.linear, vectors, shares)


def affine(linear: nn.Linear, parts: Tensor, shares: Tensor) -> Tensor:
    """parts [S, ..., inputs], shares [S, ...] -> [S, ..., outputs]."""
    product = F.linear(parts, linear.weight)
    return product if linear.bias is None else product + shares[..., None] * linear.bias


def normalised(norm: nn.Module, parts: Tensor, shares: Tensor) -> Tensor:
    """By the deviation of the parts' sum: parts [S, T, D] -> [S, T, D]."""
    if isinstance(norm, nn.Identity):
        return parts
    deviation = (parts.sum(dim=0).var(dim=-1, keepdim=True, correction=0) + norm.eps).sqrt()  # [T, 1]
    centred = parts - parts.mean(dim=-1, keepdim=True)
    return centred / deviation * norm.weight + shares[..., None] * norm.bias


def slope(activation: object, inputs: Tensor) -> Tensor:
    """f(x) / x."""
    inputs = torch.where(inputs > 0, inputs.clamp_min(NEAR_ZERO), inputs.clamp_max(-NEAR_ZERO))
    return activation(inputs) / inputs  # type: ignore[operator]
