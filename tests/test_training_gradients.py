"""A step's gradient: added up over micro-batches, with class weights, short of memory, and when it is not finite."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model.batch import Batch, pad
from model.tokenizer import Encoding
from tests.parallel_run import CASES, LABELS, classify
from tests.short_runs import assert_equal, notes, trainer_of, weights_of, with_dropout
from tests.small import random_model, small_config
from training.config import Recipe
from training.finetune import make_objective
from training.gradients import BatchLoss, Gradients, NonFiniteLoss
from training.labelled import Rows
from training.lanes import Lanes
from training.parallel import ALONE
from training.sharding import NotEnoughMemory
from training.trainer import Objective

CPU = torch.device("cpu")
EXACT = 1e-12  # of float64
Loss = Callable[[Sequence[int], int], BatchLoss]


# ---- micro-batches


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("micro-batches", "stopped early")])
def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(case: str) -> None:
    objective = CASES[case][0]()
    trained = [parameter for parameter in objective.model.parameters() if parameter.requires_grad]
    rows = max(objective.steps(0), key=len)

    def compute(size: int) -> tuple[float, int, list[torch.Tensor]]:
        loss, tokens = Gradients(objective.loss, trained, 0, ALONE, CPU, size, Lanes(1), objective.length).compute(
            rows, 2
        )
        return loss, tokens, [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in trained]

    loss, tokens, gradients = compute(len(rows))
    assert max(float(gradient.abs().max()) for gradient in gradients) > 1e-3
    for size in (1, 2, 3, len(rows) - 1):
        again, same_tokens, summed = compute(size)
        assert same_tokens == tokens
        assert again == pytest.approx(loss, abs=EXACT)
        assert max(float((a - b).abs().max()) for a, b in zip(gradients, summed, strict=True)) < EXACT


def test_a_run_in_micro_batches_ends_with_the_weights_of_one_without(tmp_path: Path) -> None:
    ends = []
    for size in (None, 3):
        objective = classify(class_weights="balanced")
        list(trainer_of(objective, tmp_path / str(size), micro_batch_size=size).run())
        ends.append(weights_of(objective.model))
    assert max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0]) < 1e-9  # Adam divides by ~1e-8


def test_a_batch_with_nothing_to_learn_changes_no_gradient() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    gradients = Gradients(
        lambda *_: BatchLoss((weight * 0).sum(), 0, 5), [weight], 0, ALONE, CPU, 2, Lanes(1), lambda _: 5
    )
    assert gradients.compute([0, 1], 0) == (0.0, 5)
    assert gradients.compute([0, 1, 2], 0) == (0.0, 10)
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.0, 0.0, 0.0]


# ---- out of memory


def with_room_for(objective: Objective, rows_at_once: int, from_step: int = 0) -> Objective:
    """As on a device that holds so many rows."""
    loss = objective.loss

    def narrow(rows: Sequence[int], step: int) -> BatchLoss:
        if len(rows) > rows_at_once and step >= from_step:
            raise torch.OutOfMemoryError("the device is full")
        return loss(rows, step)

    objective.loss = narrow  # type: ignore[method-assign]
    return objective


def test_out_of_memory_is_answered_by_half_the_rows_at_once(tmp_path: Path) -> None:
    small = with_dropout()
    list(trainer_of(small, tmp_path / "small", micro_batch_size=2).run())
    narrow = with_room_for(with_dropout(), 3)
    trainer = trainer_of(narrow, tmp_path / "narrow")
    events = list(trainer.run())
    assert_equal(weights_of(narrow.model), weights_of(small.model))  # 7 -> 4 -> 2
    assert len(notes(events)) == 1
    assert "out of memory at step 1: from here 2 rows pass through the model at once" in notes(events)[0]
    assert trainer.surroundings is not None
    assert trainer.surroundings.micro_batch_size == 2
    settled = json.loads((tmp_path / "narrow" / "surroundings.json").read_text(encoding="utf-8"))
    assert settled["micro_batch_size"] == 2, "a resumed run does not try again"


def test_memory_that_grows_scarce_makes_the_step_again(tmp_path: Path) -> None:
    """In float64 without dropout, as if nothing had happened."""
    plain, scarce = classify(), with_room_for(classify(), 4, from_step=5)
    list(trainer_of(plain, tmp_path / "plain").run())
    events = list(trainer_of(scarce, tmp_path / "scarce").run())
    assert [note.split(":")[0] for note in notes(events)] == ["out of memory at step 6"]
    ends = weights_of(plain.model), weights_of(scarce.model)
    assert max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0]) < 1e-9


@pytest.mark.parametrize("from_step", [0, 3])
def test_a_single_row_that_does_not_fit_ends_the_run_with_advice(tmp_path: Path, from_step: int) -> None:
    with pytest.raises(NotEnoughMemory, match="one row at a time; lower max_length, choose adapter 'lora'"):
        list(trainer_of(with_room_for(classify(), 0, from_step), tmp_path).run())


def test_other_errors_are_not_taken_for_a_full_device(tmp_path: Path) -> None:
    objective = classify()

    def broken(rows: Sequence[int], step: int) -> BatchLoss:
        raise RuntimeError("expected scalar type Float")

    objective.loss = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="expected scalar type"):
        list(trainer_of(objective, tmp_path).run())


# ---- losses that are not finite


def with_loss(objective: Objective, change: Callable[[torch.Tensor, int], torch.Tensor]) -> Objective:
    loss = objective.loss

    def changed(rows: Sequence[int], step: int) -> BatchLoss:
        result = loss(rows, step)
        return dataclasses.replace(result, total=change(result.total, step))

    objective.loss = changed  # type: ignore[method-assign]
    return objective


def spoil(factors: dict[int, float]) -> Callable[[torch.Tensor, int], torch.Tensor]:
    return lambda total, step: total * factors.get(step, 1.0)


def flat_but_steep(total: torch.Tensor, step: int) -> torch.Tensor:
    """A root at zero: a finite loss without a finite gradient."""
    return total + (total * 0.0).sqrt() if step == 4 else total


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil({0: math.inf}), "loss became inf at step 1 of 12.*no weight had been changed yet.*check the base model"),
        (spoil({0: math.nan}), "loss became nan at step 1 of 12"),
        (spoil({4: math.nan}), "loss became nan at step 5.*no outlier.*look at the rows of this step"),
        (spoil({3: 1e6, 4: math.nan}), "loss became nan at step 5.*had grown to a norm of.*lengthen the warm-up"),
        (flat_but_steep, "gradient became nan at step 5.*no outlier"),
    ],
)
@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_what_is_not_finite_is_explained_and_spoils_no_weight(
    tmp_path: Path, change: Callable[[torch.Tensor, int], torch.Tensor], words: str, micro_batch_size: int | None
) -> None:
    objective = with_loss(classify(), change)
    with pytest.raises(NonFiniteLoss, match=words):
        list(trainer_of(objective, tmp_path, micro_batch_size=micro_batch_size).run())
    assert all(parameter.isfinite().all() for parameter in objective.model.parameters())


# ---- class weights


def test_balanced_weights_give_each_class_the_same_say() -> None:
    objective = classify(class_weights="balanced")
    targets = torch.tensor(objective.train.targets)  # type: ignore[attr-defined]
    counts = torch.bincount(targets)
    assert len(set(counts.tolist())) > 1
    expected = len(targets) / (len(counts) * counts)
    weights = objective.weights  # type: ignore[attr-defined]
    assert weights.tolist() == pytest.approx(expected.tolist())
    assert float(weights[targets].mean()) == pytest.approx(1.0)
    rows = list(range(9))
    logits = objective.model.classify(batch_of(objective, rows))
    by_torch = F.cross_entropy(logits, targets[rows], weights.double())
    assert float(objective.loss(rows, 0).mean.detach()) == pytest.approx(float(by_torch.detach()), abs=EXACT)


def batch_of(objective: Objective, rows: Sequence[int]) -> Batch:
    return pad([objective.train.encodings[row] for row in rows], 0)  # type: ignore[attr-defined]


def test_balanced_weights_find_the_rare_class(tmp_path: Path) -> None:
    """Token 6 is rare's in 12 of 40 rows: too few to be named, unless a rare row has nine times the say."""
    texts = [[5, 9]] * 80 + [[6, 9]] * 40
    targets = [0] * 80 + [0] * 28 + [1] * 12
    rows = Rows([Encoding.of_ids(ids) for ids in texts], targets)
    recalls = {}
    for kind in ("none", "balanced"):
        fields: dict[str, Any] = LABELS | {"labels": ("common", "rare")}
        model = random_model(small_config("encoder", dropout=0.0, task="classification", **fields)).requires_grad_(True)
        recipe = Recipe(batch_size=24, num_epochs=12, class_weights=kind)  # type: ignore[arg-type]
        objective = make_objective("classification", model, rows, rows, recipe)
        list(trainer_of(objective, tmp_path / kind, num_epochs=12, learning_rate=1e-2).run())
        scores = objective.evaluate(ALONE)
        recalls[kind] = scores.to_dict()["confusion_matrix"]["counts"][1][1] / 12
    assert recalls == {"none": 0.0, "balanced": 1.0}
