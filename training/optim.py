"""AdamW and its schedules. Used by `trainer.py`."""

import math

import torch
from torch import nn

from training.config import Optimisation


def make_optimizer(model: nn.Module, optimisation: Optimisation) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over what is to be trained; biases and LayerNorm weights are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim >= 2]
    plain = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": optimisation.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    betas = (0.9, optimisation.second_moment_decay)
    return torch.optim.AdamW(groups, lr=optimisation.learning_rate, betas=betas, fused=True)


def learning_rate_at(step: int, total_steps: int, optimisation: Optimisation) -> float:
    """Linear warm-up to the peak, then down to zero in a line or along half a cosine. `step` counts from 0."""
    peak = optimisation.learning_rate
    warmup_steps = int(total_steps * optimisation.warmup_share)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    left = (total_steps - step) / max(1, total_steps - warmup_steps)  # 1 -> 0
    return peak * left if optimisation.schedule == "linear" else peak * 0.5 * (1.0 - math.cos(math.pi * left))
