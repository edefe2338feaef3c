"""What the report needs to know of a task; `classes.py`, `label_sets.py`, `real_numbers.py`, `tags.py` have one each.

An answer is what is said of one row: a class, a set of labels, a number, or a tag for each word. N rows, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from model.heads import TextModel
from model.tokenizer import Encoding
from training.data import Examples, drawn
from training.evaluation.ratio import Numbers, Ratio

Answer = TypeVar("Answer")
BASELINE_ROWS = 50_000  # of training, drawn at random, that a baseline is fitted on


@dataclass(frozen=True)
class Metric:
    """The figure a task is judged by first."""

    key: str
    title: str
    higher_is_better: bool = True


@dataclass(frozen=True)
class Prediction(Generic[Answer]):
    """What the model says of each held-out row."""

    answers: Sequence[Answer]
    probabilities: Sequence[Numbers]  # of each row: [C], of tags [words read, C]; empty for numbers


@dataclass(frozen=True)
class Baseline(Generic[Answer]):
    """What a simple model says of the same rows."""

    name: str
    what: str  # for a reader
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Mistake:
    """A row that the model gets wrong, and how sure it is of that: a probability, or for numbers the error."""

    row: int
    size: float


class Task(Protocol[Answer]):
    """Held-out rows of one task, with their true answers."""

    metric: Metric
    encodings: Sequence[Encoding]
    truth: Sequence[Answer]

    def predict(self, model: TextModel) -> Prediction[Answer]: ...

    def ratio(self, answers: Sequence[Answer]) -> Ratio:
        """The metric, row by row."""

    def figures(self, answers: Sequence[Answer]) -> dict[str, float]:
        """Every figure that needs answers alone, by name."""

    def describe(self, prediction: Prediction[Answer]) -> dict[str, Any]:
        """Sections of the report that only this task has, and figures that need probabilities under `figures`."""

    def calibration(self, prediction: Prediction[Answer], temperature: float) -> dict[str, Any] | None:
        """Whether the probabilities can be believed, with logits that are multiplied by the temperature; None without
        probabilities."""

    def mistakes(self, prediction: Prediction[Answer]) -> list[Mistake]:
        """The surest first."""

    def baselines(self, training: Examples) -> Iterator[Baseline[Answer]]:
        """From the simplest on. Raises ValueError when the training rows give one nothing to learn."""

    def groups(self) -> Mapping[str, Sequence[int]]:
        """Rows by true answer: their labels, or ranges of the number."""

    def show(self, answer: Answer) -> str:
        """For a reader."""

    def columns(self, prediction: Prediction[Answer], row: int) -> dict[str, str | float]:
        """One row's cells of `predictions.csv`, beside its line and text."""


def for_baselines(training: Examples) -> tuple[Examples, Sequence[int]]:
    """The rows that a simple model is fitted on, and which of all they are."""
    places = drawn(len(training.rows), BASELINE_ROWS)
    return (training if len(places) == len(training.rows) else training.select(places)), places
