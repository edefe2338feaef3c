"""Any number of labels a text. N rows, C labels."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, hamming_loss, log_loss
from sklearn.multiclass import OneVsRestClassifier

from model.heads import TextModel
from model.tokenizer import Tokenizer
from training.baselines.tfidf import fit_tfidf, logistic_regression
from training.data import Examples
from training.evaluate import predict
from training.evaluation.calibration import calibration, with_logits_times
from training.evaluation.ratio import Numbers, Ratio
from training.evaluation.task import Baseline, Metric, Mistake, Prediction, for_baselines
from training.labelled import encode_label_sets
from training.report.copies import flat
from training.scores import THRESHOLD, counted_columns, macro_f1, per_label

LabelSet = tuple[bool, ...]  # [C]


class LabelSets:
    """Micro F1 first: each label of each row is a decision of its own."""

    metric = Metric("micro_f1", "micro F1")

    def __init__(self, held_out: Examples, tokenizer: Tokenizer, labels: Sequence[str], max_length: int) -> None:
        rows = encode_label_sets(held_out, tokenizer, labels, max_length)
        self.encodings = rows.encodings
        self.truth: Sequence[LabelSet] = [tuple(map(bool, row)) for row in rows.targets]
        self._labels = labels
        self._texts = [flat(text) for text in held_out.inputs]

    def predict(self, model: TextModel) -> Prediction[LabelSet]:
        probabilities = predict(model, self.encodings).double().sigmoid().numpy()  # [N, C]
        return Prediction([tuple(row) for row in (probabilities >= THRESHOLD).tolist()], list(probabilities))

    def ratio(self, answers: Sequence[LabelSet]) -> Ratio:
        true, given = self._matrices(answers)
        return Ratio(2.0 * (true & given).sum(axis=1), 1.0 * true.sum(axis=1) + given.sum(axis=1))

    def figures(self, answers: Sequence[LabelSet]) -> dict[str, float]:
        true, given = self._matrices(answers)
        common = {"labels": counted_columns(self._labels), "zero_division": 0.0}
        return {
            "micro_f1": float(f1_score(true, given, average="micro", **common)),
            "macro_f1": macro_f1(true, given),
            "accuracy": float(accuracy_score(true, given)),  # the whole set
            "hamming_loss": float(hamming_loss(true, given)),
        }

    def describe(self, prediction: Prediction[LabelSet]) -> dict[str, Any]:
        true, given = self._matrices(prediction.answers)
        probabilities = np.stack(prediction.probabilities)  # [N, C]
        scores = per_label(true, given, self._labels, counted_columns(self._labels))
        flat_true, flat_probabilities = true.ravel() == 1, probabilities.ravel()
        return {
            "figures": {
                "log_loss": float(log_loss(flat_true, flat_probabilities, labels=[False, True])),
                "brier": float(np.square(flat_probabilities - flat_true).mean()),
            },
            "per_label": [
                {**asdict(score), "predicted": int(found)}
                for score, found in zip(scores, given.sum(axis=0), strict=True)
            ],
        }

    def calibration(self, prediction: Prediction[LabelSet], temperature: float) -> dict[str, Any]:
        given = np.stack(prediction.probabilities).ravel()  # [N * C]
        both = with_logits_times(temperature, np.stack([1.0 - given, given], axis=-1))
        return calibration(both[:, 1], np.array(self.truth, dtype=bool).ravel())

    def _matrices(self, answers: Sequence[LabelSet]) -> tuple[Any, Any]:
        """0 or 1 [N, C] of the truth and of the answers."""
        return np.array(self.truth, dtype=np.int64), np.array(answers, dtype=np.int64)

    def mistakes(self, prediction: Prediction[LabelSet]) -> list[Mistake]:
        true, given = self._matrices(prediction.answers)
        sure: Numbers = np.where(given == 1, prediction.probabilities, 1.0 - np.stack(prediction.probabilities))
        worst = np.where(true != given, sure, 0.0).max(axis=1)
        return [Mistake(int(row), float(worst[row])) for row in np.argsort(-worst, kind="stable") if worst[row] > 0]

    def baselines(self, training: Examples) -> Iterator[Baseline[LabelSet]]:
        sets = [tuple(label in own for label in self._labels) for own in map(set, training.label_sets)]
        commonest = Counter(sets).most_common(1)[0][0]
        what = f"always {self.show(commonest)!r}, the commonest set in training"
        yield Baseline("majority", what, [commonest] * len(self.truth))
        some, _ = for_baselines(training)
        texts = [flat(text) for text in some.inputs]
        targets = np.array([[label in own for label in self._labels] for own in map(set, some.label_sets)], dtype=int)
        varied = [column for column in range(len(self._labels)) if 0 < targets[:, column].sum() < len(texts)]
        given = np.tile(targets[0] == 1, (len(self.truth), 1))  # a label that is always, or never, there
        if varied:
            model = fit_tfidf(texts, targets[:, varied], OneVsRestClassifier(logistic_regression()))
            given[:, varied] = np.reshape(model.predict(self._texts), (len(self.truth), len(varied))) == 1
        what = "a logistic regression a label over TF-IDF of the same training rows"
        yield Baseline("TF-IDF", what, [tuple(row) for row in given.tolist()])

    def groups(self) -> Mapping[str, Sequence[int]]:
        """A row stands in the group of each of its labels."""
        by_label: dict[str, list[int]] = {label: [] for label in self._labels}
        for row, true in enumerate(self.truth):
            for label, given in zip(self._labels, true, strict=True):
                if given:
                    by_label[label].append(row)
        return by_label

    def show(self, answer: LabelSet) -> str:
        return ", ".join(label for label, given in zip(self._labels, answer, strict=True) if given) or "none"

    def columns(self, prediction: Prediction[LabelSet], row: int) -> dict[str, str | float]:
        cells: dict[str, str | float] = {
            "true": self.show(self.truth[row]),
            "predicted": self.show(prediction.answers[row]),
        }
        own = prediction.probabilities[row]
        return cells | {f"probability:{label}": float(own[index]) for index, label in enumerate(self._labels)}
