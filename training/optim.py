"""AdamW and its schedule. Used by `trainer.py`."""

import torch
from torch import nn

from training.config import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases and LayerNorm weights are not decayed."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    plain = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def learning_rate_at(step: int, total_steps: int, recipe: Recipe) -> float:
    """Linear warm-up to the peak, then linear decay to zero. `step` counts from 0."""
    warmup_steps = int(total_steps * recipe.warmup_share)
    if step < warmup_steps:
        return recipe.learning_rate * (step + 1) / warmup_steps
    return recipe.learning_rate * (total_steps - step) / max(1, total_steps - warmup_steps)
