"""One class a text or pair of texts. N rows, C classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, log_loss, matthews_corrcoef
from sklearn.metrics import precision_recall_fscore_support as precision_recall

from model.heads import TextModel
from model.tokenizer import Tokenizer
from training.baselines.tfidf import fit_tfidf, logistic_regression
from training.data import Examples
from training.evaluate import predict
from training.evaluation.calibration import calibration, with_logits_times
from training.evaluation.ratio import Ratio, mean_of
from training.evaluation.task import Baseline, Metric, Mistake, Prediction, for_baselines
from training.labelled import encode_classes
from training.report.copies import flat
from training.scores import per_label

MATRIX_LABELS = 50  # beyond which a matrix has more cells than anyone reads
CONFUSIONS = 20  # the commonest, by name


class Classes:
    """Accuracy first: it is what a user feels; macro F1 beside it tells when rare classes are given up."""

    metric = Metric("accuracy", "accuracy")

    def __init__(self, held_out: Examples, tokenizer: Tokenizer, labels: Sequence[str], max_length: int) -> None:
        rows = encode_classes(held_out, tokenizer, labels, max_length)
        self.encodings = rows.encodings
        self.truth: Sequence[int] = rows.targets
        self._labels = labels
        self._numbers = range(len(labels))
        self._texts = [flat(text) for text in held_out.inputs]

    def predict(self, model: TextModel) -> Prediction[int]:
        probabilities = predict(model, self.encodings).double().softmax(dim=-1).numpy()  # [N, C]
        return Prediction(probabilities.argmax(axis=1).tolist(), list(probabilities))

    def ratio(self, answers: Sequence[int]) -> Ratio:
        return mean_of(np.equal(answers, self.truth).astype(np.float64))

    def figures(self, answers: Sequence[int]) -> dict[str, float]:
        """Means over the classes that these rows have or the model names: it may know others."""
        precision, recall, f1, _ = precision_recall(self.truth, answers, average="macro", zero_division=0.0)
        told_apart = len({*self.truth, *answers}) > 1  # else the correlation has no meaning, and is given as 0
        _, _, weighted_f1, _ = precision_recall(self.truth, answers, average="weighted", zero_division=0.0)
        return {
            "accuracy": float(accuracy_score(self.truth, answers)),
            "macro_f1": float(f1),
            "macro_precision": float(precision),
            "macro_recall": float(recall),
            "weighted_f1": float(weighted_f1),
            "matthews_correlation": float(matthews_corrcoef(self.truth, answers)) if told_apart else 0.0,
        }

    def describe(self, prediction: Prediction[int]) -> dict[str, Any]:
        probabilities = np.stack(prediction.probabilities)  # [N, C]
        matrix = confusion_matrix(self.truth, prediction.answers, labels=self._numbers)
        return {
            "figures": {
                "log_loss": float(log_loss(self.truth, probabilities, labels=self._numbers)),
                "brier": float(brier_score_loss(self.truth, probabilities, labels=self._numbers, scale_by_half=True)),
            },
            "per_label": [
                {**asdict(score), "predicted": int(found)}
                for score, found in zip(
                    per_label(self.truth, prediction.answers, self._labels, self._numbers),
                    matrix.sum(axis=0),
                    strict=True,
                )
            ],
            "confusion": {"labels": list(self._labels), "counts": matrix.tolist()}
            if len(self._labels) <= MATRIX_LABELS
            else None,
            "confusions": self._confusions(matrix),
        }

    def calibration(self, prediction: Prediction[int], temperature: float) -> dict[str, Any]:
        probabilities = with_logits_times(temperature, np.stack(prediction.probabilities))  # [N, C]
        return calibration(probabilities.max(axis=1), np.equal(prediction.answers, self.truth))

    def _confusions(self, matrix: Any) -> list[dict[str, str | int]]:
        """The commonest mistakes, by name."""
        wrong = matrix * (1 - np.eye(len(self._labels), dtype=matrix.dtype))
        order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
        places = [divmod(int(place), len(self._labels)) for place in order]
        return [
            {"true": self._labels[true], "predicted": self._labels[predicted], "count": int(wrong[true, predicted])}
            for true, predicted in places
            if wrong[true, predicted]
        ]

    def mistakes(self, prediction: Prediction[int]) -> list[Mistake]:
        rows = zip(prediction.answers, self.truth, prediction.probabilities, strict=True)
        found = [
            Mistake(row, float(own[answer])) for row, (answer, true, own) in enumerate(rows) if int(answer) != true
        ]
        return sorted(found, key=lambda mistake: -mistake.size)

    def baselines(self, training: Examples) -> Iterator[Baseline[int]]:
        number = {label: index for index, label in enumerate(self._labels)}
        targets = [number[label] for label in training.labels]
        commonest = int(np.bincount(targets).argmax())
        what = f"always {self._labels[commonest]!r}, the commonest class in training"
        yield Baseline("majority", what, [commonest] * len(self.truth))
        some, _ = for_baselines(training)
        texts = [flat(text) for text in some.inputs]
        known = [number[label] for label in some.labels]
        model = fit_tfidf(texts, known, logistic_regression(), len(set(known)))
        what = "logistic regression over TF-IDF of the same training rows"
        yield Baseline("TF-IDF", what, [int(answer) for answer in model.predict(self._texts)])

    def groups(self) -> Mapping[str, Sequence[int]]:
        by_label: dict[str, list[int]] = {label: [] for label in self._labels}
        for row, true in enumerate(self.truth):
            by_label[self._labels[true]].append(row)
        return by_label

    def show(self, answer: int) -> str:
        return self._labels[answer]

    def columns(self, prediction: Prediction[int], row: int) -> dict[str, str | float]:
        cells: dict[str, str | float] = {
            "true": self._labels[self.truth[row]],
            "predicted": self._labels[prediction.answers[row]],
        }
        own = prediction.probabilities[row]
        return cells | {f"probability:{label}": float(own[index]) for index, label in enumerate(self._labels)}
