"""Scores of multi-label models, regressors and taggers on held-out rows. Used by `objectives.py`.

Counting is scikit-learn's but for spans, whose few lines are here: a span is right when its kind and both ends are
(Tjong Kim Sang and De Meulder 2003).
"""

import functools
from collections import Counter
from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    precision_recall_fscore_support,
    r2_score,
)

from model.tags import mark_spans, spans_of
from training.temperature import fit_temperature

THRESHOLD = 0.5  # of probability, from which on a label is given


@dataclass(frozen=True)
class LabelScore:
    """How well one label is found."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int  # rows or words that have it


@dataclass(frozen=True)
class MultiLabelScores:
    """Any number of labels a row."""

    num_examples: int
    loss: float  # mean binary cross-entropy, nats
    accuracy: float  # rows with exactly the right set
    micro_f1: float
    macro_f1: float
    majority_baseline: float  # accuracy of always giving the commonest set
    per_label: tuple[LabelScore, ...]
    temperature: float  # by which the served head's logits are divided, see `temperature.py`

    def summary(self) -> str:
        return (
            f"micro F1 {self.micro_f1:.3f}, macro F1 {self.macro_f1:.3f}, whole set right {self.accuracy:.3f} "
            f"(majority baseline {self.majority_baseline:.3f}), loss {self.loss:.3f}"
        )

    def figures(self) -> dict[str, float]:
        return {"loss": self.loss, "accuracy": self.accuracy, "micro_f1": self.micro_f1, "macro_f1": self.macro_f1}

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "per_label": [asdict(score) for score in self.per_label]}


@dataclass(frozen=True)
class RegressionScores:
    """A number a row, in the unit of the data."""

    num_examples: int
    loss: float  # mean squared error of the standardised score, which is what training lowers
    mean_absolute_error: float
    root_mean_squared_error: float
    r2: float  # share of the variance explained; 0 is as good as always naming the mean
    correlation: float  # Pearson's; 0 when all predictions are the same
    mean_baseline: float  # mean absolute error of always naming the mean of these rows

    def summary(self) -> str:
        return (
            f"mean absolute error {self.mean_absolute_error:.4g} (naming the mean: {self.mean_baseline:.4g}), "
            f"R² {self.r2:.3f}, correlation {self.correlation:.3f}, loss {self.loss:.3f}"
        )

    def figures(self) -> dict[str, float]:
        fields = asdict(self)
        return {name: fields[name] for name in ("loss", "mean_absolute_error", "r2", "correlation")}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TaggingScores:
    """A tag a word."""

    num_examples: int
    num_words: int  # judged
    num_unread_words: int  # beyond the model's length, or without a token; not judged
    loss: float  # mean cross-entropy, nats a word
    accuracy: float  # words with the right tag
    macro_f1: float
    majority_baseline: float  # accuracy of always naming the commonest tag
    span_f1: float | None  # whole spans, where tags mark them
    per_label: tuple[LabelScore, ...]
    temperature: float  # as of `MultiLabelScores`

    def summary(self) -> str:
        spans = "" if self.span_f1 is None else f"span F1 {self.span_f1:.3f}, "
        return (
            f"{spans}words right {self.accuracy:.3f} (majority baseline {self.majority_baseline:.3f}), "
            f"macro F1 {self.macro_f1:.3f}, loss {self.loss:.3f}"
        )

    def figures(self) -> dict[str, float]:
        spans = {} if self.span_f1 is None else {"span_f1": self.span_f1}
        return {"loss": self.loss, "accuracy": self.accuracy, "macro_f1": self.macro_f1, **spans}

    def to_dict(self) -> dict[str, Any]:
        fields = {**asdict(self), "per_label": [asdict(score) for score in self.per_label]}
        return {name: value for name, value in fields.items() if value is not None}


def score_label_sets(
    logits: torch.Tensor, targets: Sequence[Sequence[float]], labels: Sequence[str]
) -> MultiLabelScores:
    """logits [N, C] and 0 or 1 for each label of each row."""
    true = torch.tensor(targets)  # [N, C]
    predicted = (logits.sigmoid() >= THRESHOLD).int().numpy()
    wanted = true.int().numpy()
    common = Counter(tuple(row) for row in wanted.tolist()).most_common(1)[0][1]
    counted = counted_columns(labels)
    return MultiLabelScores(
        num_examples=len(targets),
        loss=float(F.binary_cross_entropy_with_logits(logits, true)),
        accuracy=float(accuracy_score(wanted, predicted)),
        micro_f1=float(f1_score(wanted, predicted, average="micro", labels=counted, zero_division=0.0)),
        macro_f1=macro_f1(wanted, predicted),
        majority_baseline=common / len(targets),
        per_label=per_label(wanted, predicted, labels, counted),
        temperature=fit_temperature(
            logits, true, functools.partial(F.binary_cross_entropy_with_logits, reduction="sum")
        ),
    )


def score_numbers(predicted: Sequence[float], wanted: Sequence[float], unit: float) -> RegressionScores:
    """Numbers in the unit of the data; `unit` is what training counts as 1."""
    ours, true = np.array(predicted, dtype=np.float64), np.array(wanted, dtype=np.float64)
    squared = float(mean_squared_error(true, ours))
    varied = len(true) > 1 and ours.std() > 0 and true.std() > 0
    return RegressionScores(
        num_examples=len(true),
        loss=squared / unit**2,
        mean_absolute_error=float(mean_absolute_error(true, ours)),
        root_mean_squared_error=squared**0.5,
        r2=float(r2_score(true, ours)) if true.std() > 0 else 0.0,
        correlation=float(np.corrcoef(true, ours)[0, 1]) if varied else 0.0,
        mean_baseline=float(np.abs(true - true.mean()).mean()),
    )


def score_tags(
    logits: torch.Tensor, rows: Sequence[Sequence[int]], num_unread_words: int, labels: Sequence[str]
) -> TaggingScores:
    """logits [W, C] of all judged words, row after row, and their true tags by row."""
    wanted = [tag for row in rows for tag in row]
    true = torch.tensor(wanted)
    predicted = logits.argmax(dim=-1).tolist()
    numbers = range(len(labels))
    macro = f1_score(wanted, predicted, average="macro", labels=sorted(set(wanted)), zero_division=0.0)
    return TaggingScores(
        num_examples=len(rows),
        num_words=len(wanted),
        num_unread_words=num_unread_words,
        loss=float(F.cross_entropy(logits, true)),
        accuracy=float(accuracy_score(wanted, predicted)),
        macro_f1=float(macro),
        majority_baseline=max(Counter(wanted).values()) / len(wanted),
        span_f1=_span_f1(predicted, rows, labels),
        per_label=per_label(wanted, predicted, labels, numbers),
        temperature=fit_temperature(logits, true, functools.partial(F.cross_entropy, reduction="sum")),
    )


def counted_columns(labels: Sized) -> list[int] | None:
    """What scikit-learn is to score in columns of 0 and 1: all, but it takes a single one for the classes 0 and 1."""
    return [1] if len(labels) == 1 else None


def macro_f1(wanted: npt.NDArray[np.int_], predicted: npt.NDArray[np.int_]) -> float:
    """Of columns of 0 and 1 [N, C]: the mean over the labels that some row has or is given; 0 without any."""
    present = np.flatnonzero((wanted + predicted).any(axis=0))
    if not len(present):
        return 0.0
    counted = counted_columns(present) or list(range(len(present)))
    shown = {"average": "macro", "labels": counted, "zero_division": 0.0}
    return float(f1_score(wanted[:, present], predicted[:, present], **shown))


def per_label(
    wanted: Any, predicted: Any, labels: Sequence[str], numbers: Sequence[int] | None
) -> tuple[LabelScore, ...]:
    """Of classes by number, or of columns of 0 and 1, see `counted_columns`."""
    columns = precision_recall_fscore_support(wanted, predicted, labels=numbers, zero_division=0.0)
    return tuple(
        LabelScore(label, float(precision), float(recall), float(f1), int(support))
        for label, precision, recall, f1, support in zip(labels, *columns, strict=True)
    )


def _span_f1(predicted: Sequence[int], rows: Sequence[Sequence[int]], labels: Sequence[str]) -> float | None:
    if not mark_spans(labels):
        return None
    ours: set[tuple[int, int, int, str]] = set()
    true: set[tuple[int, int, int, str]] = set()
    end = 0
    for number, row in enumerate(rows):
        guessed = predicted[end : end + len(row)]
        end += len(row)
        ours |= {(number, *span) for span in spans_of([labels[tag] for tag in guessed])}
        true |= {(number, *span) for span in spans_of([labels[tag] for tag in row])}
    return 2 * len(ours & true) / max(1, len(ours) + len(true))
