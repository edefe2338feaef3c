"""A number a text. N rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import Ridge
from sklearn.metrics import (
    mean_absolute_error,
    median_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from model.heads import TextModel
from model.tokenizer import Tokenizer
from training.baselines.tfidf import fit_tfidf
from training.data import Examples, drawn
from training.evaluate import predict
from training.evaluation.ratio import Ratio, mean_of
from training.evaluation.task import Baseline, Metric, Mistake, Prediction, for_baselines
from training.labelled import encode_scores
from training.report.copies import flat

SHOWN_POINTS = 1_000  # of predicted against true, rows drawn at random
ERROR_BINS = 30
RANGES = 4  # of the true number, of equal numbers of rows


class RealNumbers:
    """Mean absolute error first: it is in the unit of the data."""

    metric = Metric("mean_absolute_error", "mean absolute error", higher_is_better=False)

    def __init__(self, held_out: Examples, tokenizer: Tokenizer, labels: Sequence[str], max_length: int) -> None:  # noqa: ARG002
        rows = encode_scores(held_out, tokenizer, max_length)
        self.encodings = rows.encodings
        self.truth: Sequence[float] = rows.targets
        self._texts = [flat(text) for text in held_out.inputs]

    def predict(self, model: TextModel) -> Prediction[float]:
        return Prediction(predict(model, self.encodings)[:, 0].double().tolist(), [np.empty(0)] * len(self.truth))

    def ratio(self, answers: Sequence[float]) -> Ratio:
        return mean_of(np.abs(np.subtract(answers, self.truth)))

    def figures(self, answers: Sequence[float]) -> dict[str, float]:
        """Correlation and R² are 0 where they are not defined: for one number that is always the same."""
        varied = len(set(self.truth)) > 1
        correlated = varied and len(set(answers)) > 1
        return {
            "mean_absolute_error": float(mean_absolute_error(self.truth, answers)),
            "median_absolute_error": float(median_absolute_error(self.truth, answers)),
            "root_mean_squared_error": float(root_mean_squared_error(self.truth, answers)),
            "r2": float(r2_score(self.truth, answers)) if varied else 0.0,
            "correlation": float(pearsonr(self.truth, answers).statistic) if correlated else 0.0,
            "rank_correlation": float(spearmanr(self.truth, answers).statistic) if correlated else 0.0,
        }

    def describe(self, prediction: Prediction[float]) -> dict[str, Any]:
        errors = np.subtract(prediction.answers, self.truth)
        least = float(np.abs(errors).max()) * 1e-6 or 1e-6  # a range too narrow to be cut into bins is widened
        counts, edges = np.histogram(errors, ERROR_BINS, (errors.min() - least, errors.max() + least))
        shown = drawn(len(self.truth), SHOWN_POINTS)
        return {
            "figures": {"mean_error": float(errors.mean())},
            "errors": {"edges": edges.tolist(), "counts": counts.tolist()},
            "points": [[self.truth[row], prediction.answers[row]] for row in shown],
        }

    def calibration(self, prediction: Prediction[float], temperature: float) -> None:
        """Numbers come without probabilities."""

    def mistakes(self, prediction: Prediction[float]) -> list[Mistake]:
        errors = np.abs(np.subtract(prediction.answers, self.truth))
        return [Mistake(int(row), float(errors[row])) for row in np.argsort(-errors, kind="stable")]

    def baselines(self, training: Examples) -> Iterator[Baseline[float]]:
        scores = list(training.rows["score"][:])
        mean = float(np.mean(scores))
        yield Baseline("mean", f"always {mean:.4g}, the mean of training", [mean] * len(self.truth))
        some, _ = for_baselines(training)
        texts = [flat(text) for text in some.inputs]
        model = fit_tfidf(texts, list(some.rows["score"][:]), Ridge())
        what = "ridge regression over TF-IDF of the same training rows"
        yield Baseline("TF-IDF", what, model.predict(self._texts).tolist())

    def groups(self) -> Mapping[str, Sequence[int]]:
        edges = np.unique(np.quantile(self.truth, np.linspace(0, 1, RANGES + 1)))
        which = np.clip(np.searchsorted(edges, self.truth, side="right") - 1, 0, max(0, len(edges) - 2))
        ends = edges[1:] if len(edges) > 1 else edges
        return {
            f"{edges[number]:.4g} to {end:.4g}": np.flatnonzero(which == number).tolist()
            for number, end in enumerate(ends)
        }

    def show(self, answer: float) -> str:
        return f"{answer:.4g}"

    def columns(self, prediction: Prediction[float], row: int) -> dict[str, str | float]:
        true, answer = self.truth[row], prediction.answers[row]
        return {"true": true, "predicted": answer, "error": answer - true}
