"""How fast a run of MiniLM on the movie sentences makes its steps. Used by the benchmarks of single parts of the
trainer, which compare two ways in turn."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from model.heads import TextModel
from model.tokenizer import Tokenizer
from model.weights import load_model
from training.catalogue import fetch_minilm, write_splits
from training.config import Recipe
from training.finetune import Data, encode, head_config, load_data, make_objective, set_dropout, with_head
from training.trainer import Objective, Trainer

STEPS, WARM_STEPS = 30, 5


class Movies:
    """The data, read once, and the base."""

    def __init__(self, home: Path) -> None:
        self._base: TextModel
        self._tokenizer: Tokenizer
        self._base, self._tokenizer = load_model(fetch_minilm(home / "cache"))
        with tempfile.TemporaryDirectory() as folder:
            train, validation, _ = write_splits("movie-sentiment", home / "cache", Path(folder))
            self._data: Data = load_data(train, validation, Recipe())

    def objective(self, recipe: Recipe) -> Objective:
        """Of a model that has learned nothing yet."""
        data = self._data
        model = with_head(self._base, head_config(self._base.config, data.task, data.labels, recipe))
        if recipe.dropout is not None:
            set_dropout(model, recipe.dropout)
        parts = (data.train, data.validation)
        encoded = [encode(part, self._tokenizer, data.labels, recipe.max_length) for part in parts]
        return make_objective(data.task, model, *encoded, recipe)


class _Enough(Exception):
    """The steps that are timed have been made."""


def steps_per_second(objective: Objective, recipe: Recipe) -> float:
    """Of the first steps of a run, the warm ones left out."""
    marks: list[float] = []

    def note() -> bool:
        marks.append(time.perf_counter())
        if len(marks) > WARM_STEPS + STEPS:
            raise _Enough
        return False

    with tempfile.TemporaryDirectory() as folder:
        optimisation = recipe.optimisation_for("accuracy")
        trainer = Trainer(objective, optimisation, Path(folder) / "checkpoint", "run", interrupted=note)
        try:
            list(trainer.run())
        except _Enough:
            return STEPS / (marks[-1] - marks[WARM_STEPS])
    raise AssertionError("the run was too short")


def in_turn(pairs: int, before: Callable[[], float], after: Callable[[], float]) -> list[str]:
    """Cells: both medians, the median of the pairs' ratios, and their spread."""
    rates = [(before(), after()) for _ in range(pairs)]
    ratios = sorted(ours / theirs for theirs, ours in rates)
    medians = [f"{median(column):.2f}" for column in zip(*rates, strict=True)]
    return [*medians, f"{median(ratios):.3f}", f"{ratios[0]:.3f} to {ratios[-1]:.3f}"]
