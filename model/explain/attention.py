"""Attention of one text, never empty: the probability path with its shape and row sums checked.

Called by the serving engine's explanation lane. Shapes: L layers, H heads, T tokens.
"""

from typing import Literal

import torch
from torch import Tensor

from model.batch import pad
from model.explain.value_norm import value_norms
from model.heads import TextModel
from model.tokenizer import Encoding
from model.transformer import Trace

AttentionMethod = Literal["raw", "rollout", "value_norm"]
ROW_SUM_TOLERANCE = 1e-3


class AttentionError(RuntimeError):
    """The numbers are not what they are said to be; showing them would mislead."""


def raw_attention(model: TextModel, encoding: Encoding) -> Tensor:
    """Attention probabilities of every layer and head for one text -> float32 [L, H, T, T], rows sum to 1."""
    return attention_by(model, encoding, "raw")


def attention_by(model: TextModel, encoding: Encoding, method: AttentionMethod) -> Tensor:
    """One text -> float32 [L, H, T, T], row: the token that looks, column: the token it looks at.

    raw: the probabilities. rollout: [L, 1, T, T], see `rollout`. value_norm: see `value_norms`; its rows alone don't
    sum to 1.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        trace = model.trace(pad([encoding], model.config.pad_id).to(device))
        weights = _probabilities(model, trace, len(encoding.ids))
        if method == "rollout":
            weights = rollout(weights)
            check_rows(weights)
        elif method == "value_norm":
            norms = value_norms(model.body, trace).cpu()  # [L, H, T]
            weights = weights * norms[:, :, None, :]
            if not bool(torch.isfinite(weights).all()):
                raise AttentionError("a norm is not a finite number; the model's weights may not be finite")
    return weights


def rollout(probabilities: Tensor) -> Tensor:
    """Attention rollout (Abnar and Zuidema 2020): how much of each token's layer l output comes from each input token,
    if attention and the residual connection weigh the same.

    probabilities [L, H, T, T], rows sum to 1 -> [L, 1, T, T]: R_l = A_l R_(l-1) with A_l = (mean over heads + I) / 2
    and R_(-1) = I; rows sum to 1.
    """
    identity = torch.eye(probabilities.size(-1), dtype=probabilities.dtype)
    mixed = 0.5 * probabilities.mean(dim=1) + 0.5 * identity  # [L, T, T]
    rolled = [mixed[0]]
    for layer in mixed[1:]:
        rolled.append(layer @ rolled[-1])
    return torch.stack(rolled)[:, None]


def _probabilities(model: TextModel, trace: Trace, tokens: int) -> Tensor:
    stacked = torch.stack([weights[0] for weights in trace.probabilities]).float().cpu()  # [L, H, T, T]
    expected = (model.config.num_layers, model.config.num_heads, tokens, tokens)
    if tuple(stacked.shape) != expected:
        raise AttentionError(f"attention has shape {tuple(stacked.shape)}, expected {expected}")
    check_rows(stacked)
    return stacked


def check_rows(weights: Tensor) -> None:
    """Raises AttentionError when a row does not sum to 1."""
    worst = float((weights.sum(dim=-1) - 1.0).abs().max())
    if not worst <= ROW_SUM_TOLERANCE:  # also catches NaN
        raise AttentionError(f"an attention row is off 1 by {worst}; the model's weights may not be finite")
