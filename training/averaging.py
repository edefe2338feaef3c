"""A running mean of the weights, which is what is scored and kept (Polyak and Juditsky 1992; exponential, as in
Tarvainen and Valpola 2017). While the learning rate is high the weights swing around where they are going; their mean
is there sooner. Used by `trainer.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from model.heads import TextModel
from training.checkpoints import trained
from training.sharding import part_like

MOST_STEPS = 5  # between two that count, since the weights hardly move between
LEAST_COUNTED = 10  # of a mean's steps


class WeightAverage:
    """The mean of a model's trained weights over about the last `horizon` steps; of fewer, it is the mean of them all.

    The token embedding is left as it is: a batch reads few of its rows, and most have hardly moved. The mean depends on
    the weights and the numbers of the steps alone, so a resumed run has the same.
    """

    def __init__(self, model: TextModel, horizon: float) -> None:
        """Takes as much memory as the weights. They must be where they stay."""
        table = model.stack.embeddings.token.weight
        self._weights = {name: one for name, one in trained(model).items() if one is not table}
        self._means = {name: one.detach().clone() for name, one in self._weights.items()}
        self.every = max(1, min(MOST_STEPS, int(horizon / LEAST_COUNTED)))  # steps between two that count
        self._horizon = max(horizon, self.every)

    def count(self, step: int) -> None:
        """After each step, by its number, from 1."""
        if step % self.every:
            return
        share = self.every / min(self._horizon, step)
        with torch.no_grad():
            for name, mean in self._means.items():
                mean.lerp_(self._weights[name].detach(), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the mean; afterwards, to the bit, what it had."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        """The model's weights for the mean, tensor by tensor: it takes the memory of one."""
        with torch.no_grad():
            for name, mean in self._means.items():
                weight = self._weights[name]
                kept = weight.detach().clone()
                weight.copy_(mean)
                mean.copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """For the checkpoint."""
        return dict(self._means)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes up what `tensors` gave; every process has the whole."""
        for name, mean in self._means.items():
            mean.copy_(part_like(tensors[name], mean))
