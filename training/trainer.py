"""One training loop for every objective. It yields events; it prints and stores nothing but checkpoints.

The command line prints the events, the job worker stores them, tests assert on them.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from model.capability import has_bfloat16
from model.heads import TextModel
from training.checkpoints import Position, load_checkpoint, save_checkpoint
from training.config import Optimisation
from training.evaluate import Scores
from training.optim import learning_rate_at, make_optimizer

PROGRESS_STEPS = 10  # steps between progress events


class Objective(Protocol):
    """What is learned: which rows make a step, and how wrong the model is on them. See `objectives.py`."""

    model: TextModel
    num_train: int  # rows or documents, for the reader
    num_validation: int

    def steps(self, epoch: int) -> Sequence[Sequence[int]]:
        """The row indices of each step: a pure function, of the same length for every epoch."""

    def loss(self, rows: Sequence[int], step: int) -> tuple[Tensor, int]:
        """Mean loss of these rows (a scalar), and the real tokens they have. Called under autocast."""

    def evaluate(self) -> Scores:
        """Scores on held-out rows. Called under autocast, in evaluation mode, without gradients."""


@dataclass(frozen=True)
class Started:
    step: int  # 0, or the step a checkpoint continued from
    total_steps: int
    num_train: int
    num_validation: int
    dtype: str


@dataclass(frozen=True)
class Progress:
    step: int
    total_steps: int
    epoch: float
    train_loss: float  # mean since the last progress event
    learning_rate: float
    tokens_per_second: float  # real tokens, padding not counted
    tokens_seen: int


@dataclass(frozen=True)
class Evaluated:
    step: int
    evaluation: Scores


@dataclass(frozen=True)
class Noted:
    """Something the user should know before the run goes on."""

    message: str


TrainingEvent = Started | Progress | Evaluated | Noted


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite; the weights are of no use from here on."""


class Trainer:
    """Trains the objective's model in place. One instance runs once."""

    def __init__(self, objective: Objective, optimisation: Optimisation, checkpoint: Path, run_key: str) -> None:
        self.objective = objective
        self.model = objective.model
        self.optimisation = optimisation
        self.checkpoint = checkpoint
        self.run_key = run_key
        self.device = next(self.model.parameters()).device
        wanted = optimisation.bfloat16
        self.bfloat16 = has_bfloat16(self.device) if wanted is None else wanted
        self.steps_per_epoch = len(objective.steps(0))
        self.total_steps = self.steps_per_epoch * optimisation.num_epochs
        self.seconds = 0.0  # spent so far, those before an interruption included

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def run(self) -> Iterator[TrainingEvent]:
        """Trains to the last step, continuing from the checkpoint when it belongs to this very run.

        Closing the iterator (a cancelled job) stops at once and keeps the last checkpoint.
        """
        torch.manual_seed(self.optimisation.seed)
        optimizer = make_optimizer(self.model, self.optimisation)
        position = load_checkpoint(self.checkpoint, self.model, optimizer, self.run_key)
        step, tokens_seen, loss_sum = (
            (position.step, position.tokens_seen, position.loss_sum) if position else (0, 0, 0.0)
        )
        dtype = "bfloat16" if self.bfloat16 else "float32"
        yield Started(step, self.total_steps, self.objective.num_train, self.objective.num_validation, dtype)
        if position is not None and step % self.steps_per_epoch == 0:  # killed between an epoch's end and its scores
            yield Evaluated(step, self._evaluate())
        since, tokens_since = time.perf_counter(), 0
        began = since - (position.seconds if position else 0.0)
        while step < self.total_steps:
            epoch, offset = divmod(step, self.steps_per_epoch)
            for rows in self.objective.steps(epoch)[offset:]:
                learning_rate = learning_rate_at(step, self.total_steps, self.optimisation)
                loss, tokens = self._step(rows, step, optimizer, learning_rate)
                step += 1
                loss_sum += loss
                tokens_seen += tokens
                tokens_since += tokens
                if step % PROGRESS_STEPS == 0 or step == self.total_steps:
                    in_window = PROGRESS_STEPS if step % PROGRESS_STEPS == 0 else step % PROGRESS_STEPS
                    rate = tokens_since / (time.perf_counter() - since)
                    epochs_done = step / self.steps_per_epoch
                    mean_loss = loss_sum / in_window
                    yield Progress(step, self.total_steps, epochs_done, mean_loss, learning_rate, rate, tokens_seen)
                    since, tokens_since, loss_sum = time.perf_counter(), 0, 0.0
                if step % self.optimisation.checkpoint_steps == 0 or step % self.steps_per_epoch == 0:
                    self.seconds = time.perf_counter() - began
                    here = Position(step, tokens_seen, loss_sum, self.run_key, self.seconds)
                    save_checkpoint(self.checkpoint, self.model, optimizer, here)
            yield Evaluated(step, self._evaluate())
            self.seconds = time.perf_counter() - began
            since, tokens_since = time.perf_counter(), 0

    def _evaluate(self) -> Scores:
        self.model.eval()
        with torch.inference_mode(), self._autocast():
            return self.objective.evaluate()

    def _step(
        self, rows: Sequence[int], step: int, optimizer: torch.optim.AdamW, learning_rate: float
    ) -> tuple[float, int]:
        self.model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        with self._autocast():
            loss, tokens = self.objective.loss(rows, step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"the loss became {value} at learning rate {learning_rate:g}; "
                "lower learning_rate_multiplier or check the data"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        trained: list[Any] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, self.optimisation.max_gradient_norm)
        optimizer.step()
        return value, tokens
