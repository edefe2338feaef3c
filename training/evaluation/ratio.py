"""A figure as a quotient of sums over rows, so that every subset and every resampling of the rows has it too.

Accuracy is right rows over rows, micro F1 twice the true positives over found plus wanted, mean absolute error the sum
of errors over rows. N rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

Numbers = npt.NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 2_000
BATCH_NUMBERS = 4_000_000  # drawn at a time: 32 MB
SEED = 0  # the same rows give the same interval


@dataclass(frozen=True)
class Ratio:
    parts: Numbers  # [N]
    wholes: Numbers  # [N]

    @property
    def value(self) -> float | None:
        """None when there is nothing to count, such as spans in rows without any."""
        whole = float(self.wholes.sum())
        return float(self.parts.sum()) / whole if whole else None

    def of(self, rows: Sequence[int]) -> "Ratio":
        index = np.array(rows, dtype=np.int64)
        return Ratio(self.parts[index], self.wholes[index])


def mean_of(values: Sequence[float] | Numbers) -> Ratio:
    """A plain mean over rows."""
    parts = np.asarray(values, dtype=np.float64)
    return Ratio(parts, np.ones_like(parts))


def interval(ratio: Ratio) -> list[float] | None:
    """The 95% interval by resampling rows (Efron 1979, percentile method); None when it can't be told."""
    return _interval(_quotient, ratio.parts, ratio.wholes) if ratio.value is not None else None


def interval_of_difference(ours: Ratio, theirs: Ratio) -> list[float] | None:
    """The same of ours minus theirs, on the same resampled rows: what is hard for both cancels out."""

    def difference(a: Numbers, b: Numbers, c: Numbers, d: Numbers, axis: int = -1) -> Numbers:
        return _quotient(a, b, axis) - _quotient(c, d, axis)

    return _interval(difference, ours.parts, ours.wholes, theirs.parts, theirs.wholes)


def _quotient(parts: Numbers, wholes: Numbers, axis: int = -1) -> Numbers:
    """0 for resampled rows with nothing to count."""
    whole = wholes.sum(axis=axis)
    quotient: Numbers = np.divide(parts.sum(axis=axis), whole, out=np.zeros_like(whole), where=whole != 0)
    return quotient


def _interval(statistic: Any, *columns: Numbers) -> list[float] | None:
    """BCa, scipy's default, takes a jackknife, whose time is quadratic in the rows; percentiles do not."""
    rows = len(columns[0])
    if rows < 2:
        return None
    found = bootstrap(
        columns,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_NUMBERS // rows),
        vectorized=True,
        paired=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return [float(found.low), float(found.high)]
