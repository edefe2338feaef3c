"""The gradient of one step, added up over lanes, micro-batches and processes; fewer rows at once when the device runs
out of memory; and why it is not finite, when it isn't. Used by `trainer.py`."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from model.dropout import drawing_from
from training.checkpoints import Position
from training.config import Optimisation
from training.lanes import Lanes, dealt_out
from training.memory import is_out_of_memory
from training.optim import learning_rate_at
from training.parallel import World
from training.sharding import NotEnoughMemory


@dataclass(frozen=True)
class BatchLoss:
    """Losses are summed, so that micro-batches and processes add up to the batch's mean."""

    total: Tensor  # a scalar, the sum over what is learned
    weight: float  # what to divide the sum by: rows, words, hidden tokens
    tokens: int  # real tokens of the rows, for the reader

    @property
    def mean(self) -> Tensor:
        return self.total / (self.weight or 1.0)


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient became NaN or infinite; the weights are of no use from here on."""


class TooManyRows(RuntimeError):
    """A device of a run with sharded weights is out of memory."""

    def __init__(self, rows: int) -> None:
        self.rows, self.fewer = rows, -(-rows // 2)
        super().__init__(
            f"the device is out of memory with {rows} rows at a time; start the run again, and it continues from its "
            f"last checkpoint with {self.fewer}"
        )


class Gradients:
    """Leaves the gradients of a step's mean loss in the trained parameters."""

    def __init__(
        self,
        loss: Callable[[Sequence[int], int], BatchLoss],  # of some rows of the step of this number
        trained: Sequence[Any],  # the parameters
        seed: int,
        world: World,
        device: torch.device,
        micro_batch_size: int,
        lanes: Lanes,
        length: Callable[[int], int],  # of a row, in tokens
    ) -> None:
        self.micro_batch_size = micro_batch_size
        self._loss = loss
        self.trained = trained
        self._seed = seed
        self._world = world
        self._device = device
        self._lanes = lanes
        self._length = length
        self._chances = [torch.Generator() for _ in range(lanes.most)]
        self._by_size = sorted(range(len(self.trained)), key=lambda place: -self.trained[place].numel())

    def compute(self, rows: Sequence[int], step: int) -> tuple[float, int]:
        """-> the rows' mean loss and the tokens read. A device out of memory gets half the rows at once, and the step
        is made again. Where weights are sharded it raises TooManyRows: the other processes wait amid their passes, and
        can't begin again."""
        while True:
            for parameter in self.trained:
                parameter.grad = None
            generator = random.Random(f"{self._seed}:{step}:{self._world.rank}")
            torch.manual_seed(generator.getrandbits(63))
            for chance in self._chances:
                chance.manual_seed(generator.getrandbits(63))
            if (found := self._add_up(rows, step)) is not None:
                for parameter in self.trained:
                    if parameter.grad is not None and parameter.grad.is_sparse:  # see `row_adamw.py`
                        parameter.grad = parameter.grad.coalesce()
                return found
            self.micro_batch_size = -(-self.micro_batch_size // 2)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _add_up(self, rows: Sequence[int], step: int) -> tuple[float, int] | None:
        """None when the memory of any process was not enough."""
        parts = self._parts(rows)
        sums = torch.zeros(4, dtype=torch.float64, device=self._device)  # loss, weight, tokens, out of memory
        try:
            if len(parts) == 1 and self._world.size == 1:
                losses = self._losses(rows, step)
                weight = sum(loss.weight for loss in losses) or 1.0
                means = [loss.total / weight for loss in losses]
                self._backward(means)
                return sum(float(mean.detach()) for mean in means), sum(loss.tokens for loss in losses)
            for part, counts in parts:
                losses = self._losses(part, step)
                self._backward([loss.total if counts else 0.0 * loss.total for loss in losses])
                if counts:
                    sums[0] += sum(loss.total.detach() for loss in losses)
                    sums[1] += sum(loss.weight for loss in losses)
                    sums[2] += sum(loss.tokens for loss in losses)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.micro_batch_size == 1:
                raise NotEnoughMemory.met() from error
            if self._world.shards:
                raise TooManyRows(self.micro_batch_size) from error
            sums[3] = 1.0
        self._world.add_up([sums])
        total, weight, tokens, out_of_memory = sums.tolist()
        if out_of_memory:
            return None
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in self.trained]
        if not self._world.shards:  # else the backward pass has summed them
            self._world.add_up(gradients)
        for parameter, gradient in zip(self.trained, gradients, strict=True):
            parameter.grad = gradient.div_(weight or 1.0)
        return total / (weight or 1.0), int(tokens)

    def _losses(self, rows: Sequence[int], step: int) -> list[BatchLoss]:
        """Of the rows, by lane."""
        dealt = dealt_out(rows, [self._length(row) for row in rows], self._lanes.most)
        if len(dealt) == 1:
            return [self._loss(rows, step)]

        def lose(own: Sequence[int], chance: torch.Generator) -> BatchLoss:
            with drawing_from(chance):
                return self._loss(own, step)

        return self._lanes.run([partial(lose, *lane) for lane in zip(dealt, self._chances, strict=False)])

    def _backward(self, losses: Sequence[Tensor]) -> None:
        """Adds the gradients of all lanes' losses to those that the parameters have."""
        if len(losses) == 1:
            losses[0].backward()  # type: ignore[no-untyped-call]
            return
        backward: list[Callable[[], Any]] = [losses[0].backward]
        backward += [partial(torch.autograd.grad, loss, self.trained, allow_unused=True) for loss in losses[1:]]
        _, *others = self._lanes.run(backward)

        def add(places: Sequence[int]) -> None:
            for place in places:
                parameter = self.trained[place]
                for gradient in (other[place] for other in others if other[place] is not None):
                    if parameter.grad is None:
                        parameter.grad = gradient.clone()
                    else:
                        parameter.grad += gradient

        with torch.no_grad():
            self._lanes.run([partial(add, self._by_size[lane :: len(losses)]) for lane in range(len(losses))])

    def _parts(self, rows: Sequence[int]) -> list[tuple[Sequence[int], bool]]:
        """This process's micro-batches. Where weights are sharded all processes make equally many passes, so one with
        fewer rows repeats a row that does not count: the first, which is the first process's."""
        own, size = self._world.share(rows), self.micro_batch_size
        parts = [(own[start : start + size], True) for start in range(0, len(own), size)]
        if self._world.shards:
            largest_share = -(-len(rows) // self._world.size)
            most = -(-largest_share // size)
            parts += [(rows[:1], False)] * (most - len(parts))
        return parts


def explain_non_finite(
    what: str, value: float, position: Position, total_steps: int, optimisation: Optimisation
) -> NonFiniteLoss:
    """What happened at the step that begins at `position`, why, and what to do."""
    rate = learning_rate_at(position.step, total_steps, optimisation)
    where = f"the {what} became {value} at step {position.step + 1} of {total_steps}, learning rate {rate:.2g}"
    if position.step == 0:
        why = "no weight had been changed yet, so the base model's weights or the data hold values too large"
        remedy = "check the base model, or set bfloat16 off"
    elif position.gradient_norm > 100 * optimisation.max_gradient_norm:
        why = f"the gradient had grown to a norm of {position.gradient_norm:.3g} the step before"
        remedy = "lower learning_rate_multiplier or lengthen the warm-up"
    else:
        why = f"the gradient's norm was {position.gradient_norm:.3g} the step before, which is no outlier"
        remedy = "lower learning_rate_multiplier, and look at the rows of this step"
    return NonFiniteLoss(f"{where}: {why}; {remedy}")
