"""AdamW, its schedules, and which layers learn how fast. Used by `trainer.py`."""

import math
import re
from typing import Any

import torch

from model.heads import TextModel
from training.config import Optimisation

LOWER_IS_BETTER = ("loss", "perplexity", "mean_absolute_error")  # of the figures an evaluation gives
USUAL_RATE, USUAL_WIDTH = 1e-4, 384
SLOWEST_RATE, FASTEST_RATE = 2e-5, 5e-4


def usual_learning_rate(width: int) -> float:
    """What suits fine-tuning all layers of a base of this width, with a layer decay: it falls with the width's square.
    From the runs in DECISIONS.md."""
    return min(FASTEST_RATE, max(SLOWEST_RATE, USUAL_RATE * (USUAL_WIDTH / width) ** 2))


def make_optimizer(model: TextModel, optimisation: Optimisation) -> torch.optim.AdamW:
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
    betas = (0.9, optimisation.second_moment_decay)
    return torch.optim.AdamW(described, lr=optimisation.learning_rate, betas=betas, fused=True)


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
