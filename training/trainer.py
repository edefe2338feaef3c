"""One training loop that yields events; it prints and stores nothing but checkpoints.

The command line prints the events, the job worker stores them, tests assert on them.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from model.batch import pad
from model.capability import has_bfloat16
from model.heads import TextModel
from model.tokenizer import Encoding
from training.checkpoints import Position, load_checkpoint, save_checkpoint
from training.collate import epoch_batches
from training.config import Recipe
from training.evaluate import Evaluation, evaluate
from training.optim import learning_rate_at, make_optimizer

PROGRESS_STEPS = 10  # steps between progress events


@dataclass(frozen=True)
class Rows:
    """Encoded rows and their classes, index by index."""

    encodings: Sequence[Encoding]
    targets: Sequence[int]


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
    evaluation: Evaluation


TrainingEvent = Started | Progress | Evaluated


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite; the weights are of no use from here on."""


class Trainer:
    """Tunes `model` in place on `train`. One instance runs once."""

    def __init__(
        self, model: TextModel, recipe: Recipe, train: Rows, validation: Rows, checkpoint: Path, run_key: str
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.train = train
        self.validation = validation
        self.checkpoint = checkpoint
        self.run_key = run_key
        self.device = next(model.parameters()).device
        self.bfloat16 = has_bfloat16(self.device) if recipe.bfloat16 is None else recipe.bfloat16
        self.lengths = [len(encoding.ids) for encoding in train.encodings]
        self.steps_per_epoch = math.ceil(len(self.lengths) / recipe.batch_size)
        self.total_steps = self.steps_per_epoch * recipe.num_epochs

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def run(self) -> Iterator[TrainingEvent]:
        """Trains to the last step, continuing from the checkpoint when it belongs to this very run.

        Closing the iterator (a cancelled job) stops at once and keeps the last checkpoint.
        """
        torch.manual_seed(self.recipe.seed)
        optimizer = make_optimizer(self.model, self.recipe)
        position = load_checkpoint(self.checkpoint, self.model, optimizer, self.run_key)
        step, tokens_seen, loss_sum = (
            (position.step, position.tokens_seen, position.loss_sum) if position else (0, 0, 0.0)
        )
        dtype = "bfloat16" if self.bfloat16 else "float32"
        yield Started(step, self.total_steps, len(self.lengths), len(self.validation.targets), dtype)
        if (
            position is not None and step % self.steps_per_epoch == 0
        ):  # killed between an epoch's last step and its scores
            yield Evaluated(step, self._evaluate())
        since, tokens_since = time.perf_counter(), 0
        while step < self.total_steps:
            epoch, offset = divmod(step, self.steps_per_epoch)
            batches = epoch_batches(self.lengths, self.recipe.batch_size, self.recipe.seed, epoch)
            for indices in batches[offset:]:
                learning_rate = learning_rate_at(step, self.total_steps, self.recipe)
                loss_sum += self._step(indices, optimizer, learning_rate)
                step += 1
                tokens = sum(self.lengths[index] for index in indices)
                tokens_seen += tokens
                tokens_since += tokens
                if step % PROGRESS_STEPS == 0 or step == self.total_steps:
                    in_window = PROGRESS_STEPS if step % PROGRESS_STEPS == 0 else step % PROGRESS_STEPS
                    rate = tokens_since / (time.perf_counter() - since)
                    epochs_done = step / self.steps_per_epoch
                    mean_loss = loss_sum / in_window
                    yield Progress(step, self.total_steps, epochs_done, mean_loss, learning_rate, rate, tokens_seen)
                    since, tokens_since, loss_sum = time.perf_counter(), 0, 0.0
                if step % self.recipe.checkpoint_steps == 0 or step % self.steps_per_epoch == 0:
                    here = Position(step, tokens_seen, loss_sum, self.run_key)
                    save_checkpoint(self.checkpoint, self.model, optimizer, here)
            yield Evaluated(step, self._evaluate())
            since, tokens_since = time.perf_counter(), 0

    def _evaluate(self) -> Evaluation:
        return evaluate(self.model, self.validation.encodings, self.validation.targets, self._autocast())

    def _step(self, indices: list[int], optimizer: torch.optim.AdamW, learning_rate: float) -> float:
        self.model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        batch = pad([self.train.encodings[index] for index in indices], self.model.config.pad_id).to(self.device)
        targets = torch.tensor([self.train.targets[index] for index in indices], device=self.device)
        with self._autocast():
            logits = self.model.classify(batch)
        loss = F.cross_entropy(logits, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLoss(
                f"the loss became {value} at learning rate {learning_rate:g}; "
                "lower learning_rate_multiplier or check the data"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm)
        optimizer.step()
        return value
