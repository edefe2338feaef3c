"""What the trainer promises of steps, memory, losses, stopping and resuming, each on a model of a thousand weights."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import training.trainer
from model.batch import pad_ids
from tests.parallel_run import CASES, COMMON, LABELS, classify, model_for
from tests.short_runs import assert_equal, notes, trainer_of, until, weights_of, with_dropout
from training.checkpoints import Position
from training.config import Optimisation
from training.events import Evaluated, Progress, Started
from training.finetune import METRICS, freeze, set_dropout
from training.gradients import BatchLoss
from training.optim import learning_rate_at, make_optimizer, steps_below_head
from training.parallel import ALONE, World
from training.results import read_manifest, write_manifest
from training.trainer import Objective, UnfinishedRun

CPU = torch.device("cpu")
EXACT = 1e-12  # of float64
Loss = Callable[[Sequence[int], int], BatchLoss]


# ---- the metric that a run is judged by


@dataclass(frozen=True)
class Scripted:
    """Scores that a test has made up."""

    value: float
    loss: float = 1.0

    def summary(self) -> str:
        return f"{self.value}"

    def figures(self) -> dict[str, float]:
        return {"loss": self.value, "accuracy": self.value}

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value}


def scripted(values: Sequence[float]) -> tuple[Objective, list[dict[str, torch.Tensor]]]:
    """A classifier with these scores, one an evaluation, and the weights that each was given for."""
    objective = with_dropout()
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate(world: World) -> Scripted:
        seen.append(weights_of(objective.model))
        return Scripted(values[len(seen) - 1])

    objective.evaluate = evaluate  # type: ignore[method-assign]
    return objective, seen


NAN = math.nan
JUDGED = [  # metric, patience, scores, evaluations made, which was best
    ("accuracy", 1, [0.5, 0.7, 0.6, 0.9], 3, 2),
    ("accuracy", 2, [0.5, 0.7, 0.6, 0.65], 4, 2),
    ("accuracy", 1, [0.5, 0.5, 0.9], 2, 1),  # as good is not better
    ("accuracy", None, [0.5, 0.7, 0.6, 0.65], 4, 2),
    ("accuracy", None, [0.5, 0.7, 0.6, 0.8], 4, 4),
    ("accuracy", 3, [0.9, 0.1, 0.2, 0.3], 4, 1),  # patience ends with the run, which was not cut short
    ("accuracy", None, [NAN, 0.1, NAN, 0.05], 4, 2),  # what can't be told is worse than anything
    ("loss", 1, [3.0, 1.0, 2.0, 0.5], 3, 2),  # lower is better
    ("loss", None, [3.0, 2.0, 1.0, 0.5], 4, 4),
    (None, None, [0.5, 0.7, 0.6, 0.1], 4, 4),
]


@pytest.mark.parametrize(("metric", "patience", "values", "made", "best"), JUDGED)
def test_the_best_weights_are_kept_and_the_run_stops_when_they_grow_no_better(
    tmp_path: Path, metric: str | None, patience: int | None, values: list[float], made: int, best: int
) -> None:
    objective, seen = scripted(values)
    trainer = trainer_of(objective, tmp_path, metric=metric, patience=patience)
    events = list(trainer.run())
    stopped = made < len(values)
    assert len(seen) == made
    assert trainer.finished
    assert_equal(weights_of(objective.model), seen[best - 1])
    kinds = [event.best for event in events if isinstance(event, Evaluated)]
    assert kinds[best - 1]
    write_manifest(tmp_path, trainer, {})
    manifest = read_manifest(tmp_path)
    assert manifest["metrics"] == {"value": values[best - 1]}
    assert (manifest["steps"], manifest["best_step"]) == (3 * made, 3 * best)
    assert manifest["stopped_early"] == stopped
    assert bool([note for note in notes(events) if "has not been better since step" in note]) == stopped
    again, _ = scripted([])
    assert_equal(weights_of(again.model), weights_of(with_dropout().model))
    list(trainer_of(again, tmp_path, metric=metric, patience=patience).run())
    assert_equal(weights_of(again.model), seen[best - 1])


def test_an_unknown_metric_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'bleu' is not among this task's: \['accuracy', 'loss', 'macro_f1'\]"):
        list(trainer_of(classify(), tmp_path, metric="bleu").run())


@pytest.mark.parametrize(
    ("task", "case"),
    [
        ("classification", "classification"),
        ("multi_label", "several labels"),
        ("regression", "regression"),
        ("tagging", "tagging"),
    ],
)
def test_the_metrics_offered_are_those_an_evaluation_gives(task: Any, case: str) -> None:
    objective = CASES[case][0]()
    with torch.inference_mode():
        figures = objective.evaluate(ALONE).figures()
    assert set(figures) == set(METRICS[task]) - {"span_f1"}


# ---- as many steps as planned


def test_a_run_that_lost_steps_is_no_success(tmp_path: Path) -> None:
    objective = classify()
    steps = objective.steps
    objective.steps = lambda epoch: steps(epoch)[: 6 - epoch]  # type: ignore[method-assign]
    trainer = trainer_of(objective, tmp_path)
    with pytest.raises(UnfinishedRun, match="epoch 1 has 5 steps, 6 were planned"):
        list(trainer.run())
    assert not trainer.finished
    with pytest.raises(UnfinishedRun, match="ended at step 6 of 12"):
        write_manifest(tmp_path, trainer, {})
    assert not (tmp_path / "manifest.json").exists()


def test_a_cancelled_run_has_no_manifest(tmp_path: Path) -> None:
    trainer = trainer_of(classify(), tmp_path)
    until(trainer.run(), 6)
    with pytest.raises(UnfinishedRun, match="ended at step 6 of 12"):
        write_manifest(tmp_path, trainer, {})


# ---- learning rates and layers


@pytest.mark.parametrize(
    ("schedule", "warmup_share", "rates"),
    [
        ("constant", 0.0, {0: 1.0, 50: 1.0, 99: 1.0}),
        ("constant", 0.1, {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 99: 1.0}),
        ("linear", 0.1, {0: 0.1, 9: 1.0, 10: 1.0, 55: 0.5, 99: 1 / 90}),
        ("cosine", 0.1, {0: 0.1, 9: 1.0, 10: 1.0, 55: 0.5}),
    ],
)
def test_schedules(schedule: Any, warmup_share: float, rates: dict[int, float]) -> None:
    optimisation = Optimisation(1, 1.0, warmup_share=warmup_share, schedule=schedule)
    assert {step: learning_rate_at(step, 100, optimisation) for step in rates} == pytest.approx(rates)


def moved(objective: Objective, folder: Path, **fields: Any) -> dict[int, float]:
    """The largest change of a weight in one step, by how far below the head it lies. Adam's first step is the rate."""
    before = weights_of(objective.model)
    run = trainer_of(objective, folder, learning_rate=0.01, warmup_share=0.0, weight_decay=0.0, **fields).run()
    events = itertools.takewhile(lambda event: not isinstance(event, Evaluated), run)
    list(events)
    changes: dict[int, float] = {}
    for name, parameter in objective.model.named_parameters():
        place = steps_below_head(name, 2)
        changes[place] = max(changes.get(place, 0.0), float((parameter - before[name]).abs().max()))
    return changes


def test_each_layer_learns_slower_than_the_one_above_it(tmp_path: Path) -> None:
    evaluated_at_once = {"evaluation_steps": 1}
    expected = {0: 0.01, 1: 0.005, 2: 0.0025, 3: 0.00125}
    assert moved(classify(), tmp_path, layer_decay=0.5, **evaluated_at_once) == pytest.approx(expected, rel=1e-3)
    same = dict.fromkeys(range(4), 0.01)
    assert moved(classify(), tmp_path / "plain", **evaluated_at_once) == pytest.approx(same, rel=1e-3)


def test_matrices_are_decayed_and_vectors_are_not() -> None:
    model = model_for(task="classification", **LABELS)
    groups = make_optimizer(model, Optimisation(1, 1e-3, weight_decay=0.1, layer_decay=0.5), 10).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        assert {parameter.ndim >= 2 for parameter in group["params"]} == {group["weight_decay"] == 0.1}
    assert {group["rate_share"] for group in groups} == {1.0, 0.5, 0.25, 0.125}


def test_frozen_layers_stay_as_they_are_to_the_bit(tmp_path: Path) -> None:
    objective = classify()
    freeze(objective.model, 1)
    before = weights_of(objective.model)
    list(trainer_of(objective, tmp_path, weight_decay=0.1).run())
    for name, parameter in objective.model.named_parameters():
        frozen = ".embeddings." in name or ".layers.0." in name
        assert torch.equal(parameter, before[name]) == frozen, name
    with pytest.raises(ValueError, match="frozen_layers is 3; this base has 2 layers"):
        freeze(objective.model, 3)


def test_a_run_drops_as_its_recipe_says_and_the_config_keeps_what_the_base_was_made_with() -> None:
    model = with_dropout().model.train()
    batch = pad_ids([[2, 5, 6, 7, 3], [2, 8, 3]], model.config.pad_id)

    def passes() -> list[Tensor]:
        return [model.classify(batch) for _ in range(2)]

    first, second = passes()
    assert not torch.equal(first, second)
    set_dropout(model, 0.0)
    first, second = passes()
    assert torch.equal(first, second)
    set_dropout(model, 0.5)
    first, second = passes()
    assert not torch.equal(first, second)
    assert model.config.dropout == 0.1


@pytest.mark.parametrize(
    ("first", "scored"), [(1, [5, 10, 12]), (5, [5, 10, 12]), (6, [10, 12]), (11, [12]), (100, [12])]
)
def test_held_out_rows_are_scored_from_the_step_that_is_wanted_and_at_the_end(
    tmp_path: Path, first: int, scored: list[int]
) -> None:
    trainer = trainer_of(classify(), tmp_path, evaluation_steps=5, first_evaluation=first)
    assert [event.step for event in trainer.run() if isinstance(event, Evaluated)] == scored


# ---- taken up again


def test_a_finished_run_ends_at_once_and_keeps_its_time(tmp_path: Path) -> None:
    first = trainer_of(with_dropout(), tmp_path, metric="accuracy")
    list(first.run())
    write_manifest(tmp_path, first, {"base": "x"})
    manifest = (tmp_path / "manifest.json").read_bytes()
    second = trainer_of(with_dropout(), tmp_path, metric="accuracy")
    events = list(second.run())
    assert [type(event) for event in events] == [Started]
    assert events[0].step == events[0].total_steps == 12  # type: ignore[union-attr]
    assert_equal(weights_of(second.model), weights_of(first.model))
    write_manifest(tmp_path, second, {"base": "x"})
    assert (tmp_path / "manifest.json").read_bytes() == manifest
    assert second.seconds == first.seconds > 0


def test_another_run_begins_at_its_beginning(tmp_path: Path) -> None:
    list(trainer_of(classify(), tmp_path).run())
    events = list(trainer_of(classify(), tmp_path, run_key="another").run())
    assert isinstance(events[0], Started)
    assert events[0].step == 0


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_a_continued_run_takes_up_threads_number_format_and_rows_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"bfloat16": None}
    monkeypatch.setattr(training.trainer, "has_bfloat16", lambda _: True)
    torch.set_num_threads(2)
    whole = with_dropout()
    list(trainer_of(whole, tmp_path / "whole", **fields).run())
    cut = with_dropout()
    until(trainer_of(cut, tmp_path / "cut", **fields).run(), 9)
    monkeypatch.setattr(training.trainer, "has_bfloat16", lambda _: False)
    torch.set_num_threads(1)
    resumed = with_dropout()
    trainer = trainer_of(resumed, tmp_path / "cut", **fields)
    events = list(trainer.run())
    assert events[0].step == 6  # type: ignore[union-attr]
    assert events[0].dtype == "bfloat16"  # type: ignore[union-attr]
    assert torch.get_num_threads() == 2
    assert trainer.surroundings is not None
    assert trainer.surroundings.threads == 2
    assert not notes(events)
    assert_equal(weights_of(resumed.model), weights_of(whole.model))


def test_other_conditions_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = itertools.count()

    def notes_after(change: Callable[[dict[str, Any]], object]) -> list[str]:
        run_key = f"run {next(runs)}"
        until(trainer_of(with_dropout(), tmp_path, run_key=run_key).run(), 9)
        file = tmp_path / "surroundings.json"
        settled = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(change(settled)), encoding="utf-8")
        return notes(list(trainer_of(with_dropout(), tmp_path, run_key=run_key).run()))

    (note,) = notes_after(lambda settled: settled | {"processor": "Pentium"})
    assert "processor was Pentium, is " in note
    assert "weights may differ" in note
    (note,) = notes_after(lambda settled: settled | {"torch": "1.0"})
    assert f"torch was 1.0, is {torch.__version__}" in note
    (note,) = notes_after(lambda _: "damaged")
    assert "what was settled when it began is lost" in note
    monkeypatch.setattr(training.trainer, "largest_micro_batch", lambda *_: 3)
    (note,) = notes_after(lambda settled: settled | {"micro_batch_size": 7})
    assert "rows at once was 7, is 3" in note


def test_a_run_that_fits_in_parts_only_says_so_and_is_told_the_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.trainer, "largest_micro_batch", lambda *_: 3)
    events = list(trainer_of(classify(), tmp_path).run())
    assert "3 of 7 rows pass through the model at once" in notes(events)[0]
    started = next(event for event in events if isinstance(event, Started))
    assert started.micro_batch_size == 3
    assert f"{started.memory_bytes / 2**30:.2f} GiB" in notes(events)[0]


def test_measuring_leaves_no_trace(tmp_path: Path) -> None:
    """A row that no step has seen has no place on the map, though the measurement saw it."""
    objective = classify()
    until(trainer_of(objective, tmp_path).run(), 3)
    seen = objective.tensors(ALONE)["probability"][0].isfinite()
    rows = sorted(row for step in objective.steps(0)[:3] for row in step)
    assert seen.nonzero().flatten().tolist() == rows
    assert set(objective.longest(2)) - set(rows), "else this would say nothing"


def test_progress_is_the_mean_since_the_last_and_its_rate_that_of_the_step(tmp_path: Path) -> None:
    objective = classify()
    losses: list[float] = []
    loss = objective.loss

    def noted(rows: Sequence[int], step: int) -> BatchLoss:
        result = loss(rows, step)
        losses.append(float(result.mean.detach()))
        return result

    objective.loss = noted  # type: ignore[method-assign]
    events = [event for event in trainer_of(objective, tmp_path).run() if isinstance(event, Progress)]
    losses = losses[2:]  # the measurement's
    assert [event.step for event in events] == [10, 12]
    assert events[0].train_loss == pytest.approx(sum(losses[:10]) / 10)
    assert events[1].train_loss == pytest.approx(sum(losses[10:]) / 2)
    assert events[1].epoch == 2.0
    assert events[0].learning_rate == learning_rate_at(9, 12, Optimisation(**COMMON))


def test_a_position_survives_json() -> None:
    position = Position("key", 3, best_value=-math.inf, history=[{"step": 1, "loss": 0.1 + 0.2}])
    assert Position(**json.loads(json.dumps(dataclasses.asdict(position)))) == position
