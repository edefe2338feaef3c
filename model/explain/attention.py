"""Raw attention of an encoder, never empty: the probability path with its shape and row sums checked.

Called by the serving engine's explanation lane. Shapes: L layers, H heads, T tokens.
"""

import torch
from torch import Tensor

from model.batch import pad
from model.heads import TextModel
from model.tokenizer import Encoding

ROW_SUM_TOLERANCE = 1e-3


class AttentionError(RuntimeError):
    """The probabilities are not a distribution; showing them would mislead."""


def raw_attention(model: TextModel, encoding: Encoding) -> Tensor:
    """Attention probabilities of every layer and head for one text -> float32 [L, H, T, T], rows sum to 1."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        trace = model.trace(pad([encoding], model.config.pad_id).to(device))
    stacked = torch.stack([weights[0] for weights in trace.probabilities]).float().cpu()  # [L, H, T, T]
    tokens = len(encoding.ids)
    expected = (model.config.num_layers, model.config.num_heads, tokens, tokens)
    if tuple(stacked.shape) != expected:
        raise AttentionError(f"attention has shape {tuple(stacked.shape)}, expected {expected}")
    worst = float((stacked.sum(dim=-1) - 1.0).abs().max())
    if not worst <= ROW_SUM_TOLERANCE:  # also catches NaN
        raise AttentionError(f"an attention row is off 1 by {worst}; the model's weights may not be finite")
    return stacked
