"""Integrated gradients (Sundararajan, Taly and Yan 2017) over a text's token embeddings.

Called by the serving engine's explanation lane. Shapes: R points on the path, T tokens, D width.
"""

import numpy as np
import torch
from torch import Tensor

from model.explain.masking import MAX_TOKENS, check_replacement, rows_at_once
from model.explain.target import Attribution, Target
from model.explain.text_input import TextInput, check_target, check_text, gradients_on
from model.heads import TextModel
from model.tokenizer import Encoding


def integrated_gradients(
    model: TextModel,
    encoding: Encoding,
    target: Target,
    replacement: int,
    steps: int = 32,
    max_tokens: int = MAX_TOKENS,
) -> Attribution:
    """Signed scores along the straight line from a baseline to the text: (vector - baseline vector) times the mean
    gradient on the line, summed over the width.

    Only token vectors move, before position and segment are added and the sum is normalised, so that each point of the
    line is as normal an input as the model's LayerNorm makes it. The baseline is the same text with `replacement` (see
    `masking.replacement_id`) in the place of every token that is not special; special tokens stay and score 0.

    `value` is the target's value for the text, `baseline` its value for the baseline text. If the integral were exact,
    the scores would add up to value - baseline; `rest`, the completeness gap, is what is missing: value - baseline -
    sum of scores. More `steps`, the points of a Gauss-Legendre rule, make it smaller. Points are evaluated so many at a
    time that points x T stays within `max_tokens`, one at least: memory does not grow with `steps`.
    """
    check_text(model.config, encoding)
    check_target(model.config, target)
    check_replacement(model.config, replacement)
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
    text = TextInput.of(model, encoding)
    ids = text.batch.ids
    special = torch.tensor(encoding.special, device=ids.device)
    with gradients_on():
        end = text.vectors(ids)
        start = text.vectors(ids.where(special, replacement))
        shares, weights = _gauss_legendre(steps, end)
        rows = rows_at_once(len(encoding.ids), max_tokens)
        mean_slope = torch.zeros_like(end[0])  # [T, D]
        for share, weight in zip(torch.split(shares, rows), torch.split(weights, rows), strict=True):
            points = torch.lerp(start, end, share[:, None, None]).requires_grad_(True)  # [R, T, D]
            total = target.value(text.logits(points)).sum()  # no point depends on another
            (slopes,) = torch.autograd.grad(total, points)
            mean_slope += torch.einsum("r,rtd->td", weight, slopes)
    with torch.inference_mode():
        value, baseline = (float(target.value(text.logits(vectors)[0])) for vectors in (end, start))
    scores = ((end - start)[0] * mean_slope).sum(dim=-1)  # [T]
    return Attribution(scores.float().cpu(), value, value - baseline - float(scores.sum()), baseline)


def _gauss_legendre(steps: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Points within (0, 1) and their weights, which sum to 1: exact for polynomials up to degree 2 * steps - 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)  # on (-1, 1)
    return like.new_tensor((points + 1) / 2), like.new_tensor(weights / 2)
