"""Runs of twelve steps on models of a thousand weights, and what tests ask of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from model.heads import TextModel
from tests.parallel_run import COMMON, LABELS, classify
from tests.small import random_model, small_config
from training.config import Optimisation
from training.events import Evaluated, Noted, TrainingEvent
from training.trainer import Objective, Trainer


def trainer_of(objective: Objective, folder: Path, run_key: str = "run", **fields: Any) -> Trainer:
    folder.mkdir(exist_ok=True)
    return Trainer(objective, Optimisation(**(COMMON | fields)), folder / "checkpoint", run_key)


def weights_of(model: TextModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def with_dropout(**fields: Any) -> Objective:
    """The classifier in float32 with dropout, so that random states count."""
    config = small_config("encoder", dropout=0.1, task="classification", **LABELS)
    return classify(random_model(config).requires_grad_(True), **fields)


def notes(events: Sequence[TrainingEvent]) -> list[str]:
    return [event.message for event in events if isinstance(event, Noted)]


def until(events: Iterator[TrainingEvent], step: int) -> None:
    """Lets the run go so far, then closes it as a cancelled job does."""
    for event in events:
        if isinstance(event, Evaluated) and event.step >= step:
            events.close()  # type: ignore[attr-defined]
            return
    raise AssertionError(f"there was no step {step}")
