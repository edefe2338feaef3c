"""One training loop for every objective. It yields events; it prints and stores nothing but checkpoints.

The command line prints the events, the job worker stores them, tests assert on them. A step is a pure function of the
weights, the optimiser's state and the step's number: that is what lets a killed run end with the very same weights.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from model.capability import has_bfloat16
from model.heads import TextModel
from training.averaging import WeightAverage
from training.checkpoints import (
    Position,
    checkpoint_tensors,
    find_checkpoint,
    load_average,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
    settled_file,
    trained,
)
from training.clock import Clock
from training.config import Optimisation
from training.evaluate import Scores
from training.events import Evaluated, Noted, Progress, Started, TrainingEvent
from training.gradients import BatchLoss, Gradients, TooManyRows, explain_non_finite
from training.lanes import Lanes, most_lanes
from training.memory import MemoryNeed, fitting_lanes, free_memory, gibibytes, largest_micro_batch, measure_need
from training.optim import LOWER_IS_BETTER, clip_gradients, learning_rate_at, make_optimizer
from training.parallel import ALONE, World
from training.row_adamw import RowAdamW
from training.sharding import Placement, gathered
from training.surroundings import Surroundings, processor_name, store, stored, take_up

PROGRESS_STEPS = 10  # steps between progress events


class Objective(Protocol):
    """What is learned: which rows make a step, and how wrong the model is on them. See `objectives.py`."""

    model: TextModel
    num_train: int  # rows or documents, for the reader
    num_validation: int
    batch_size: int  # rows of a step

    @property
    def padding_share(self) -> float:
        """Of the tokens computed in the first epoch."""

    def steps(self, epoch: int) -> Sequence[Sequence[int]]:
        """The row indices of each step: a pure function, of the same length for every epoch."""

    def longest(self, count: int) -> Sequence[int]:
        """The rows that need the most memory."""

    def length(self, row: int) -> int:
        """Its tokens."""

    def loss(self, rows: Sequence[int], step: int) -> BatchLoss:
        """The loss of some rows of a step. Called under autocast, on a CPU by several threads for rows of their own."""

    def evaluate(self, world: World) -> Scores:
        """Scores on held-out rows; the processes share the work, and each has the result. Called under autocast, in
        evaluation mode, without gradients."""

    def tensors(self, world: World) -> dict[str, Tensor]:
        """What the objective gathers while training, in all processes; kept in the checkpoint."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes up what `tensors` gave."""

    def served(self, temperature: float) -> AbstractContextManager[None]:
        """Within, the model's head is the one to be served, its logits divided by the temperature; afterwards it learns
        on as it was."""


class UnfinishedRun(RuntimeError):
    """The run ended before its last step. It is no success, whatever it has learned."""


class Interrupted(UnfinishedRun):
    """Someone asked the run to end. Called again, it continues from the very step."""


class Trainer:
    """Trains the objective's model in place. One instance runs once."""

    def __init__(
        self,
        objective: Objective,
        optimisation: Optimisation,
        checkpoint: Path,
        run_key: str,
        world: World = ALONE,
        placement: Placement | None = None,  # of the model; None: it stays where it is
        interrupted: Callable[[], bool] = lambda: False,  # asked after each step
        saved: Callable[[], None] = lambda: None,  # called in the first process after each checkpoint
    ) -> None:
        self.objective = objective
        self.model = objective.model
        self.optimisation = optimisation
        self.checkpoint = checkpoint
        self.world = world
        self.interrupted = interrupted
        self._saved = saved
        self.device = next(self.model.parameters()).device
        self.placement = placement or Placement(self.model, self.device, world)
        self.steps_per_epoch = len(objective.steps(0))
        self.total_steps = self.steps_per_epoch * optimisation.num_epochs
        self.position = Position(run_key)
        wanted = optimisation.bfloat16
        self.bfloat16 = has_bfloat16(self.device) if wanted is None else wanted
        self.surroundings: Surroundings | None = None  # settled when the run starts
        self._average: WeightAverage | None = None
        self._notes: list[str] = []

    @property
    def seconds(self) -> float:
        """Spent so far, those before an interruption included."""
        return self.position.seconds

    @property
    def finished(self) -> bool:
        return self.position.step == self.total_steps or self.position.stopped

    def run(self) -> Iterator[TrainingEvent]:
        """Trains to the last step, or until the metric no longer rises, from the checkpoint when it is of this very
        run. Leaves the best weights in the model when the run is judged by a metric, else the last.

        Closing the iterator stops at once and keeps the last checkpoint. Raises Interrupted, with a checkpoint of the
        last step, as soon as `interrupted` says so.
        """
        torch.manual_seed(self.optimisation.seed)
        if not self.world.shards:  # the same seed makes the same weights, but on processors that differ only nearly so
            self.world.copy_from_leader(list(self.model.parameters()))
        # before what is present is measured: the one imports much, the other is as large as the weights
        optimizer = make_optimizer(self.model, self.optimisation, self.total_steps, self.world.shards)
        if self.optimisation.average_share:
            self._average = WeightAverage(self.model, self.optimisation.average_share * self.total_steps)
        need = self._measure()
        with self.world.leader_first():
            notes = self._continue(optimizer)
        self.world.must_agree((self.position.run_key, self.position.step), "run and checkpoint")
        self._notes += self.world.from_leader(lambda: notes)
        self.surroundings = self._settle(need)
        with self._following(optimizer):
            yield from self._train(optimizer, need)

    def _following(self, optimizer: torch.optim.AdamW) -> AbstractContextManager[None]:
        """On one CPU, rows of the token embedding wait until they are read again; processes add up whole gradients, and
        a GPU changes a whole table in no time."""
        if not isinstance(optimizer, RowAdamW):
            return nullcontext()
        if self.device.type == "cpu" and self.world.size == 1:
            return optimizer.follow()
        optimizer.catch_up()  # with what a run under other conditions had left
        return nullcontext()

    def _train(self, optimizer: torch.optim.AdamW, need: MemoryNeed) -> Iterator[TrainingEvent]:
        assert self.surroundings is not None
        with Lanes(self.surroundings.lanes) as lanes:
            yield from self._steps(optimizer, self._gradients(optimizer, lanes), need)

    def _steps(self, optimizer: torch.optim.AdamW, gradients: Gradients, need: MemoryNeed) -> Iterator[TrainingEvent]:
        assert self.surroundings is not None
        yield from self._said()
        position, rows_at_once = self.position, self.surroundings.micro_batch_size
        started = Started(
            position.step,
            self.total_steps,
            self.objective.num_train,
            self.objective.num_validation,
            self.surroundings.dtype,
            rows_at_once,
            self.objective.padding_share,
            need.peak(rows_at_once, self.surroundings.lanes),
        )
        yield from self._tell(started)
        clock = Clock(position.seconds)
        while not self.finished:
            epoch, offset = divmod(position.step, self.steps_per_epoch)
            steps = self.objective.steps(epoch)
            if len(steps) != self.steps_per_epoch:
                raise UnfinishedRun(f"epoch {epoch} has {len(steps)} steps, {self.steps_per_epoch} were planned")
            for rows in steps[offset:]:
                tokens = self._step(rows, optimizer, gradients)
                clock.count(tokens)
                if position.step % PROGRESS_STEPS == 0 or position.step == self.total_steps:
                    yield from self._tell(self._progress(clock))
                if self._evaluation_is_due():
                    if isinstance(optimizer, RowAdamW):
                        optimizer.catch_up()
                    with self._averaged():
                        yield from self._tell(self._evaluate())
                    clock.restart()
                yield from self._said()  # before the checkpoint: what is said is said at least once
                position.seconds = clock.total()
                asked = not self.finished and self.world.any(self.interrupted())
                if asked or self._checkpoint_is_due(clock):
                    self._save(optimizer)
                    clock.saved()
                    yield from self._said()
                if asked:
                    raise Interrupted(f"the run was asked to end at step {position.step} of {self.total_steps}")
                if self.finished:
                    break
        if not self.finished:
            raise UnfinishedRun(f"the run ended at step {position.step} of {self.total_steps}")
        if self._average is not None:
            self._average.exchange()
        keeps = self.world.leads or self.world.shards  # the others may be on another machine, without its file
        if keeps and self.optimisation.metric is not None and position.best_step != position.step:
            load_best(self.checkpoint, position.best_step, self.model)

    def _measure(self) -> MemoryNeed:
        """Two forward passes tell what the run needs. They leave no trace: every step sets the random state anew, and
        what the objective gathers is as before."""
        self.model.train()
        gathered = {name: tensor.clone() for name, tensor in self.objective.tensors(ALONE).items()}
        of_longest = lambda count: self._loss(self.objective.longest(count), 0).total  # noqa: E731
        ordered = self.objective.longest(self.objective.num_train)
        one_length = self.objective.length(ordered[0]) == self.objective.length(ordered[-1])
        need = measure_need(self.model, of_longest, self.placement, self._average is not None, one_length)
        self.objective.restore(gathered)
        return need

    def _loss(self, rows: Sequence[int], step: int) -> BatchLoss:
        def compute() -> tuple[Tensor, BatchLoss]:
            loss = self.objective.loss(rows, step)
            return loss.total, loss

        with self._autocast():
            return self.placement.within(compute)[1]

    def _continue(self, optimizer: torch.optim.AdamW) -> list[str]:
        """From the last checkpoint, if there is one -> what was wrong with those that are not whole."""
        found, faults = find_checkpoint(self.checkpoint, self.position.run_key)
        if found is not None:
            self.position = found
            self.objective.restore(load_checkpoint(self.checkpoint, self.model, optimizer))
            if self._average is not None:
                self._average.restore(load_average(self.checkpoint))
        where = "starts from its beginning" if found is None else f"continues from step {found.step}"
        return [f"{fault}; the run {where}" for fault in faults]

    def _settle(self, need: MemoryNeed) -> Surroundings:
        """Number format, threads and rows at once: those of before when this run is continued or begun again."""
        before = self.world.from_leader(lambda: stored(self._settled_file, self.position.run_key))
        wanted = self.optimisation.micro_batch_size or self.objective.batch_size
        a_process = -(-wanted // self.world.size)
        free = free_memory(self.device)
        free = free // self.world.local_size if self.device.type == "cpu" else free
        fitting = self.world.smallest(largest_micro_batch(need, a_process, free))
        lanes = most_lanes(self.device) if before is None else before.lanes
        if self.world.shards or self.device.type != "cpu":  # whatever the run had elsewhere
            lanes = 1
        lanes = self.world.smallest(fitting_lanes(need, fitting, lanes, free))
        dtype = "bfloat16" if self.bfloat16 else "float32"
        processor = processor_name(self.device)
        now = Surroundings(dtype, torch.get_num_threads(), fitting, self.world.size, processor, self.world.shards)
        now = replace(now, lanes=lanes)
        used, changes = (now, ["what was settled when it began is lost"]) if before is None else take_up(before, now)
        if self.world.leads:
            store(self._settled_file, self.position.run_key, used)
        rows = used.micro_batch_size
        if rows < a_process and not self.position.step:
            self._notes.append(
                f"{rows} of {a_process} rows pass through the model at once, so that the run fits into "
                f"{gibibytes(need.peak(rows))}; a step's gradients are added up, so the batch stays as large as it was"
            )
        if changes and self.position.step:
            what = "; ".join(changes)
            self._notes.append(
                f"continued under other conditions: {what}. The weights may differ from an uninterrupted run's"
            )
        self.bfloat16 = used.dtype == "bfloat16"
        if used.threads != torch.get_num_threads():
            torch.set_num_threads(used.threads)
        return used

    @property
    def _settled_file(self) -> Path:
        return settled_file(self.checkpoint)

    def _said(self) -> Iterator[TrainingEvent]:
        while self._notes:
            yield from self._tell(Noted(self._notes.pop(0)))

    def _tell(self, event: TrainingEvent) -> Iterator[TrainingEvent]:
        """Every process tells the same events; when the reader of one leaves, all of them end here."""
        left = True
        try:
            yield event
            left = False
        finally:
            if self.world.any(left) and not left:
                step, last = self.position.step, self.total_steps
                raise UnfinishedRun(f"another process left the run at step {step} of {last}; start it again")

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def _progress(self, clock: Clock) -> Progress:
        position = self.position
        in_window = (position.step - 1) % PROGRESS_STEPS + 1
        event = Progress(
            position.step,
            self.total_steps,
            position.step / self.steps_per_epoch,
            position.loss_sum / in_window,
            learning_rate_at(position.step - 1, self.total_steps, self.optimisation),
            clock.rate(),
            position.tokens_seen,
            position.gradient_norm,
        )
        kept = {"train_loss": event.train_loss, "learning_rate": event.learning_rate}
        position.history.append({"step": position.step, **kept, "gradient_norm": position.gradient_norm})
        position.loss_sum = 0.0
        return event

    def _evaluation_is_due(self) -> bool:
        every, step = self.optimisation.evaluation_steps or self.steps_per_epoch, self.position.step
        return step == self.total_steps or (step % every == 0 and step >= self.optimisation.first_evaluation)

    def _averaged(self) -> AbstractContextManager[None]:
        """Within, the model has the weights that are scored and kept."""
        return nullcontext() if self._average is None else self._average.in_place()

    def _evaluate(self) -> Evaluated:
        """Scores the held-out rows; the best weights so far are put aside, and too many scores without a better one end
        the run."""
        self.model.eval()
        with torch.inference_mode(), self._autocast():
            scores = self.placement.within(lambda: self.objective.evaluate(self.world))
        position, figures = self.position, scores.figures()
        position.history.append({"step": position.step} | {f"valid_{name}": value for name, value in figures.items()})
        metric = self.optimisation.metric
        if metric is None:
            position.best_scores = scores.to_dict()
            return Evaluated(position.step, scores)
        if metric not in figures:
            raise ValueError(f"metric {metric!r} is not among this task's: {sorted(figures)}; choose one of them")
        value = -figures[metric] if metric in LOWER_IS_BETTER else figures[metric]
        value = -math.inf if math.isnan(value) else value  # a figure that these held-out rows do not allow
        better = position.best_value is None or value > position.best_value
        if better:
            position.best_step, position.best_value, position.evaluations_since_best = position.step, value, 0
            position.best_scores, position.best_sha256 = scores.to_dict(), ""
            if position.step < self.total_steps:
                tensors = gathered(trained(self.model), self.world)
                position.best_sha256 = self._save_best(tensors) if self.world.leads else ""
        else:
            position.evaluations_since_best += 1
            patience = self.optimisation.patience
            exhausted = patience is not None and position.evaluations_since_best >= patience
            if exhausted and position.step < self.total_steps:
                position.stopped = True
                self._notes.append(
                    f"stopped at step {position.step} of {self.total_steps}: {metric} has not been better since step "
                    f"{position.best_step}, {patience} evaluations ago"
                )
        return Evaluated(position.step, scores, better)

    def _save_best(self, tensors: dict[str, Tensor]) -> str:
        try:
            return save_best(self.checkpoint, self.position.step, tensors)
        except OSError as error:
            raise OSError(
                f"the best weights so far, of step {self.position.step}, could not be written "
                f"({error.strerror or error}); free some disk space and start the run again, it continues from its "
                "last checkpoint"
            ) from error

    def _checkpoint_is_due(self, clock: Clock) -> bool:
        every = self.optimisation.checkpoint_steps
        step = self.position.step
        if self.finished or step % every == 0 or step % self.steps_per_epoch == 0:
            return True
        return self.world.any(self.world.leads and clock.unsaved() > self.optimisation.checkpoint_seconds)

    def _save(self, optimizer: torch.optim.AdamW) -> None:
        """A full disk costs the checkpoint, not the run."""
        average = {} if self._average is None else self._average.tensors()
        files = checkpoint_tensors(self.model, optimizer, self.objective.tensors(self.world), average, self.world)
        self._notes += self.world.from_leader(lambda: self._write(files))

    def _write(self, files: dict[str, dict[str, Tensor]]) -> list[str]:
        """In the first process alone -> what went wrong."""
        try:
            save_checkpoint(self.checkpoint, files, self.position)
        except OSError as error:
            return [
                f"no checkpoint could be written at step {self.position.step} ({error.strerror or error}); the run "
                "goes on, and if it is interrupted it continues from the one before; free some disk space"
            ]
        self._saved()
        return []

    def _gradients(self, optimizer: torch.optim.AdamW, lanes: Lanes) -> Gradients:
        assert self.surroundings is not None
        trained: list[Any] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        rows, seed = self.surroundings.micro_batch_size, self.optimisation.seed
        return Gradients(self._loss, trained, seed, self.world, self.device, rows, lanes, self.objective.length)

    def _step(self, rows: Sequence[int], optimizer: torch.optim.AdamW, gradients: Gradients) -> int:
        """One change of the weights -> the real tokens that were read."""
        position = self.position
        self.model.train()
        rate = learning_rate_at(position.step, self.total_steps, self.optimisation)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate_share"]
        try:
            loss, tokens = gradients.compute(rows, position.step)
        except TooManyRows as error:
            assert self.surroundings is not None
            fewer = replace(self.surroundings, micro_batch_size=error.fewer)  # for the next start
            store(self._settled_file, position.run_key, fewer)
            raise
        self._keep_micro_batch(gradients.micro_batch_size)
        self._require_finite("loss", loss)
        norm = clip_gradients(gradients.trained, self.optimisation.max_gradient_norm)
        self._require_finite("gradient", norm)
        optimizer.step()
        position.step += 1
        if self._average is not None:
            self._average.count(position.step)
        position.loss_sum += loss
        position.tokens_seen += tokens
        position.gradient_norm = norm
        return tokens

    def _keep_micro_batch(self, size: int) -> None:
        """Rows at once that the device could hold, when they became fewer."""
        assert self.surroundings is not None
        if size == self.surroundings.micro_batch_size:
            return
        self.surroundings = replace(self.surroundings, micro_batch_size=size)
        if self.world.leads:
            store(self._settled_file, self.position.run_key, self.surroundings)
        self._notes.append(
            f"out of memory at step {self.position.step + 1}: from here {size} rows pass through the model at once; a "
            "step's gradients are added up, so the batch stays as large as it was"
        )

    def _require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise explain_non_finite(what, value, self.position, self.total_steps, self.optimisation)
