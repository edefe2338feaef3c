"""AdamW, its schedules, and which layers learn how fast. Used by `trainer.py`."""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from model.heads import TextModel
from training.adamw import AdamW
from training.config import Optimisation
from training.row_adamw import RowAdamW
from training.sharding import whole

LOWER_IS_BETTER = ("loss", "perplexity", "mean_absolute_error")  # of the figures an evaluation gives
USUAL_RATE, USUAL_WIDTH = 2e-4, 384
SLOWEST_RATE, FASTEST_RATE = 2e-5, 5e-4
LARGE_VOCABULARY = 4096  # from here on a batch reads few of the token embedding's rows


def usual_learning_rate(width: int, of_usual_width: float = USUAL_RATE) -> float:
    """What suits fine-tuning all layers of a base of this width, with a layer decay: it falls with the width's square.
    `of_usual_width` is what suits one of 384. From the runs in DECISIONS.md."""
    return min(FASTEST_RATE, max(SLOWEST_RATE, of_usual_width * (USUAL_WIDTH / width) ** 2))


def make_optimizer(
    model: TextModel, optimisation: Optimisation, total_steps: int, sharded: bool = False
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over what is to be trained; biases and LayerNorm weights are not decayed.

    With a layer decay below 1 each layer learns that much slower than the one above it, the embeddings slowest, the
    head at the full rate (Howard and Ruder 2018, section 3.2); a group's `rate_share` is its part of the learning rate.
    """
    groups: dict[tuple[float, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            share = optimisation.layer_decay ** steps_below_head(name, model.config.num_layers)
            groups.setdefault((share, parameter.ndim >= 2), []).append(parameter)
    described = [
        {"params": parameters, "weight_decay": optimisation.weight_decay if decayed else 0.0, "rate_share": share}
        for (share, decayed), parameters in groups.items()
    ]
    fields: dict[str, Any] = {"lr": optimisation.learning_rate, "betas": (0.9, optimisation.second_moment_decay)}
    table = None if sharded else _seldom_read_table(model)
    if table is None:
        return AdamW(described, **fields, fused=True)
    return RowAdamW(
        described, table, lambda step: learning_rate_at(step, total_steps, optimisation), **fields, fused=True
    )


def _seldom_read_table(model: TextModel) -> nn.Embedding | None:
    """The token embedding, when it is trained and a batch reads few of its rows."""
    table = model.stack.embeddings.token
    read_whole = model.language_model is not None  # its scores are of all tokens
    return table if table.weight.requires_grad and not read_whole and len(table.weight) >= LARGE_VOCABULARY else None


def clip_gradients(parameters: Sequence[nn.Parameter], largest: float) -> float:
    """Scales the gradients together to at most this norm (Pascanu et al. 2013) -> the norm before. Sparse ones must be
    coalesced."""
    gradients = [one.grad for one in parameters if one.grad is not None]
    values = [one._values() if one.is_sparse else one for one in gradients]
    norm = float(whole(torch.nn.utils.get_total_norm(values)))
    if norm > largest:
        for one in values:
            one.mul_(largest / (norm + 1e-6))
    return norm


def steps_below_head(name: str, num_layers: int) -> int:
    """How far below the head a parameter lies: 0 in the head, 1 in the last layer, one more in each layer below."""
    if ".embeddings." in name:
        return num_layers + 1
    layer = re.search(r"\.layers\.(\d+)\.", name)
    return num_layers - int(layer[1]) if layer else 0


def learning_rate_at(step: int, total_steps: int, optimisation: Optimisation) -> float:
    """Linear warm-up to the peak, then down to zero in a line or along half a cosine, or no further change. `step`
    counts from 0."""
    peak = optimisation.learning_rate
    warmup_steps = int(total_steps * optimisation.warmup_share)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if optimisation.schedule == "constant":
        return peak
    left = (total_steps - step) / max(1, total_steps - warmup_steps)  # 1 -> 0
    return peak * left if optimisation.schedule == "linear" else peak * 0.5 * (1.0 - math.cos(math.pi * left))
