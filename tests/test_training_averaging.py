"""The mean of the weights: its value, where it goes and that it comes back, each on a model of a thousand weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.heads import TextModel
from tests.parallel_run import classify
from tests.short_runs import assert_equal, trainer_of, until, weights_of, with_dropout
from training.averaging import WeightAverage
from training.evaluate import Evaluation
from training.events import Evaluated
from training.parallel import ALONE, World

TABLE = "encoder.embeddings.token.weight"


def moved_to(model: TextModel, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def mean_after(horizon: float, values: list[float]) -> tuple[float, float]:
    """Of weights that have these values in turn, all the same -> the mean, and what is left of the token embedding."""
    model = classify().model
    average = WeightAverage(model, horizon)
    for step, value in enumerate(values, start=1):
        moved_to(model, value)
        average.count(step)
    with average.in_place():
        own = {name: parameter.unique().tolist() for name, parameter in model.named_parameters()}
    (table,) = own.pop(TABLE)
    (mean,) = {value for found in own.values() for value in found}
    return mean, table


@pytest.mark.parametrize(
    ("horizon", "values", "mean"),
    [
        (0.0, [1.0, 2.0, 9.0], 9.0),  # the last
        (4.0, [1.0, 2.0, 9.0], 4.0),  # of fewer than the horizon: of all
        (2.0, [4.0, 8.0, 2.0, 4.0], 4.0),  # 4, 6, then half-way to 2 and to 4
        (50.0, [float(step) for step in range(1, 11)], 7.5),  # of the fifth and the tenth
        (50.0, [float(step) for step in range(1, 15)], 7.5),  # the four that follow do not count yet
    ],
)
def test_the_mean_is_that_of_the_last_steps(horizon: float, values: list[float], mean: float) -> None:
    found, table = mean_after(horizon, values)
    assert found == pytest.approx(mean, rel=1e-12)
    assert table == values[-1], "the token embedding is not averaged"


def test_a_long_horizon_fades_as_it_says() -> None:
    """After 40 steps of a horizon of 10, one at 1 and then all at 0: as (1 - 1/10)^30 of the first ten's mean."""
    found, _ = mean_after(10.0, [1.0] * 10 + [0.0] * 30)
    assert found == pytest.approx(0.9**30, rel=1e-9)


def test_the_weights_come_back_to_the_bit_whatever_happens_within() -> None:
    objective = with_dropout()
    average = WeightAverage(objective.model, 4.0)
    before = weights_of(objective.model)
    with torch.no_grad():
        for parameter in objective.model.parameters():
            parameter.add_(torch.rand_like(parameter))
    after = weights_of(objective.model)

    def score() -> None:
        with average.in_place():
            assert_equal(weights_of(objective.model), before | {TABLE: after[TABLE]})
            raise RuntimeError("scored")

    with pytest.raises(RuntimeError, match="scored"):
        score()
    assert_equal(weights_of(objective.model), after)


FIELDS: dict[str, Any] = {"learning_rate": 5e-2, "evaluation_steps": 2, "checkpoint_steps": 2}


@pytest.mark.parametrize("metric", [None, "loss"])
def test_what_is_scored_is_what_is_kept(tmp_path: Path, metric: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: dict[int, dict[str, torch.Tensor]] = {}
    raw: dict[int, dict[str, torch.Tensor]] = {}
    objective = with_dropout()
    trainer = trainer_of(objective, tmp_path, average_share=0.5, metric=metric, **FIELDS)
    evaluate = objective.evaluate

    def looked_at(world: World = ALONE) -> Evaluation:
        scored[trainer.position.step] = weights_of(objective.model)
        result: Evaluation = evaluate(world)  # type: ignore[assignment]
        return result

    monkeypatch.setattr(objective, "evaluate", looked_at)
    for event in trainer.run():
        if isinstance(event, Evaluated):
            assert_equal(weights_of(objective.model), scored[event.step])  # a snapshot taken now is what was scored
        else:
            raw[trainer.position.step] = weights_of(objective.model)
    best = trainer.position.best_step if metric else 12
    assert_equal(weights_of(objective.model), scored[best])
    assert raw, "else nothing was compared"
    last = raw[max(raw)]
    assert any(not torch.equal(last[name], scored[12][name]) for name in last if name != TABLE)


def test_a_run_learns_the_same_whether_its_weights_are_averaged_or_not(tmp_path: Path) -> None:
    """The mean is looked at, and leaves no trace in what is learned."""
    trainers = [
        trainer_of(with_dropout(), tmp_path / str(share), average_share=share, **FIELDS) for share in (0.0, 0.5)
    ]
    histories = []
    for trainer in trainers:
        list(trainer.run())
        histories.append([row["train_loss"] for row in trainer.position.history if "train_loss" in row])
    assert histories[0] == histories[1]
    plain, averaged = (weights_of(trainer.model) for trainer in trainers)
    assert not torch.equal(plain["classifier.linear.weight"], averaged["classifier.linear.weight"])


@pytest.mark.parametrize("step", [2, 6, 10])
def test_a_run_left_at_any_evaluation_ends_with_the_same_mean(tmp_path: Path, step: int) -> None:
    fields = {**FIELDS, "average_share": 0.5, "metric": "loss"}
    whole = trainer_of(with_dropout(), tmp_path / "whole", **fields)
    list(whole.run())
    until(trainer_of(with_dropout(), tmp_path / "cut", **fields).run(), step)
    again = trainer_of(with_dropout(), tmp_path / "cut", **fields)
    list(again.run())
    assert_equal(weights_of(again.model), weights_of(whole.model))
    assert again.position.history == whole.position.history


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match=f"average_share is {share}; choose from 0 to 1"):
        trainer_of(with_dropout(), tmp_path, average_share=share)
