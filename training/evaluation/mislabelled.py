"""Training rows whose label is most likely wrong, from two witnesses that can't both have learned the mistake by heart.

The model itself, while it trained: the mean log-odds of the given label over the epochs (the area under the margin,
Pleiss et al. 2020). And TF-IDF with logistic regression that never saw the row: its cross-validated probability, the
out-of-sample evidence of confident learning (Northcutt et al. 2021). N rows, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from training.baselines.tfidf import logistic_regression, tfidf
from training.blas import one_core
from training.data import Examples
from training.dynamics import Cartography, log_odds
from training.evaluation.ratio import Numbers
from training.evaluation.rows import describe_row
from training.evaluation.task import for_baselines
from training.report.copies import flat

FOLDS = 5
OUTSIDE_WEIGHT = 0.5  # of TF-IDF's log-odds: it knows less than the model; see DECISIONS.md
SHOWN_ROWS = 100


@dataclass(frozen=True)
class Outside:
    """What a model that never saw a row thinks of it; NaN and -1 where none could be asked."""

    probability: Numbers  # [N] of the given label
    other: Sequence[int]  # [N] the likeliest label that is not the given one


def mislabelled(training: Examples, rows: Cartography | None) -> dict[str, Any] | None:
    """The rows whose evidence speaks against their label, the worst first; None without any evidence."""
    labels = sorted({label for own in training.label_sets for label in own})
    outside = out_of_fold(training, labels) if training.task == "classification" else None
    if rows is None and outside is None:
        return None
    scores = suspicion(rows, outside, len(training.rows))
    named = np.flatnonzero(scores > 0)
    worst = named[np.argsort(-scores[named], kind="stable")][:SHOWN_ROWS]
    return {
        "rule": _rule(rows is not None, outside is not None),
        "rows": len(training.rows),
        "named": len(named),
        "worst": [
            describe_row(
                training,
                int(row),
                suspicion=float(scores[row]),
                suggested=_suggested(outside, int(row), labels),
                confidence=_or_none(rows.confidence[row]) if rows is not None else None,
                out_of_fold=_or_none(outside.probability[row]) if outside is not None else None,
            )
            for row in worst
        ],
    }


def suspicion(rows: Cartography | None, outside: Outside | None, count: int) -> Numbers:
    """[N] log-odds against the given label, above 0 where the evidence as a whole speaks against it."""
    inside = np.zeros(count) if rows is None else np.nan_to_num(rows.margin)
    if outside is None:
        return -inside
    other = log_odds(np.nan_to_num(outside.probability, nan=0.5))
    return -(inside + (OUTSIDE_WEIGHT if rows is not None else 1.0) * other)


def out_of_fold(training: Examples, labels: Sequence[str]) -> Outside | None:
    """TF-IDF cross-validated over the rows whose label is frequent enough for every fold; None without any, and for
    texts that have no term in common."""
    number = {label: index for index, label in enumerate(labels)}
    probability = np.full(len(training.rows), np.nan)
    other = np.full(len(training.rows), -1)
    some, rows = for_baselines(training)
    counts = Counter(some.labels)
    asked = [place for place, label in enumerate(some.labels) if counts[label] >= FOLDS]
    given = np.array([number[some.labels[place]] for place in asked])
    if len(set(given.tolist())) < 2:
        return None
    texts = [flat(some.inputs[place]) for place in asked]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    classes, columns = np.unique(given, return_inverse=True)
    model = tfidf(texts, logistic_regression(), len(classes))
    try:
        with one_core():
            found = cross_val_predict(model, texts, columns, cv=folds, method="predict_proba")  # [asked, classes]
    except ValueError:  # scikit-learn's, for texts without anything to learn from, such as names that each stand once
        return None
    places = np.array(rows)[asked]
    everyone = np.arange(len(asked))
    probability[places] = found[everyone, columns]
    found[everyone, columns] = -1.0
    other[places] = classes[found.argmax(axis=1)]
    return Outside(probability, other.tolist())


def _suggested(outside: Outside | None, row: int, labels: Sequence[str]) -> str | None:
    return labels[outside.other[row]] if outside is not None and outside.other[row] >= 0 else None


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _rule(inside: bool, outside: bool) -> str:
    dynamics = "mean log-odds of the given label while the model trained (area under the margin, Pleiss et al. 2020)"
    crossed = f"log-odds of TF-IDF that did not see the row ({FOLDS} folds; confident learning, Northcutt et al. 2021)"
    if inside and outside:
        return f"{dynamics} plus {OUTSIDE_WEIGHT:g} times the {crossed}; named when the sum is below 0"
    return f"{dynamics if inside else crossed}; named when below 0"
