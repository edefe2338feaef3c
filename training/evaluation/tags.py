"""A tag a word; of the words that the model reads, as `/v1/tag` reads them. N rows, W words of a row, C tags."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss

from model.heads import TextModel
from model.tags import mark_spans, span_kind, spans_of
from model.tokenizer import Tokenizer
from training.baselines.words import CommonestTag
from training.data import Examples
from training.evaluate import predict_tokens
from training.evaluation.calibration import calibration, with_logits_times
from training.evaluation.ratio import Ratio
from training.evaluation.task import Baseline, Metric, Mistake, Prediction
from training.labelled import encode_tags
from training.scores import LabelScore, per_label

TagRow = tuple[int, ...]  # [W]


class Tags:
    """F1 of whole spans first where tags mark them, else words with the right tag."""

    def __init__(self, held_out: Examples, tokenizer: Tokenizer, labels: Sequence[str], max_length: int) -> None:
        rows = encode_tags(held_out, tokenizer, labels, max_length)
        self.encodings = rows.encodings
        self._places = [[place for place in target.places if place >= 0] for target in rows.targets]
        self._read = [[word for word, place in enumerate(target.places) if place >= 0] for target in rows.targets]
        self.truth: Sequence[TagRow] = [
            tuple(target.words[word] for word in read) for target, read in zip(rows.targets, self._read, strict=True)
        ]
        if not any(self.truth):
            raise ValueError("no word of the held-out rows has a token of this model; choose another one")
        self.num_unread = sum(len(target.words) for target in rows.targets) - sum(map(len, self.truth))
        self._labels = labels
        self._words: list[list[str]] = held_out.rows["tokens"][:]
        self._spans = mark_spans(labels)
        self.metric = Metric("span_f1", "span F1") if self._spans else Metric("accuracy", "word accuracy")

    def predict(self, model: TextModel) -> Prediction[TagRow]:
        probabilities = [
            logits[places].double().softmax(dim=-1).numpy()  # [W, C]
            for logits, places in zip(predict_tokens(model, self.encodings), self._places, strict=True)
        ]
        return Prediction([tuple(own.argmax(axis=1).tolist()) for own in probabilities], probabilities)

    def ratio(self, answers: Sequence[TagRow]) -> Ratio:
        if not self._spans:
            right = [float(np.equal(answer, true).sum()) for answer, true in zip(answers, self.truth, strict=True)]
            return Ratio(np.array(right), np.array([float(len(true)) for true in self.truth]))
        pairs = [
            (set(self._spans_of(answer)), set(self._spans_of(true)))
            for answer, true in zip(answers, self.truth, strict=True)
        ]
        parts = np.array([2.0 * len(found & wanted) for found, wanted in pairs])
        return Ratio(parts, np.array([float(len(found) + len(wanted)) for found, wanted in pairs]))

    def figures(self, answers: Sequence[TagRow]) -> dict[str, float]:
        wanted, given = _joined(self.truth), _joined(answers)
        macro = f1_score(wanted, given, average="macro", labels=sorted(set(wanted)), zero_division=0.0)
        figures = {"accuracy": float(accuracy_score(wanted, given)), "macro_f1": float(macro)}
        if not self._spans:
            return figures
        scores = self._span_scores(answers)
        found = sum(score.support * score.recall for score in scores)  # right spans
        guessed = sum(len(self._spans_of(answer)) for answer in answers)
        return {
            "span_f1": self.ratio(answers).value or 0.0,
            "span_precision": found / max(1, guessed),
            "span_recall": found / max(1, sum(score.support for score in scores)),
            "span_macro_f1": float(np.mean([score.f1 for score in scores if score.support] or [0.0])),
            **figures,
        }

    def describe(self, prediction: Prediction[TagRow]) -> dict[str, Any]:
        wanted, given = np.array(_joined(self.truth)), np.array(_joined(prediction.answers))
        probabilities = np.concatenate([own for own in prediction.probabilities if len(own)])  # [words, C]
        numbers = range(len(self._labels))
        scores = per_label(wanted, given, self._labels, numbers)
        counts = np.bincount(given, minlength=len(self._labels))
        return {
            "figures": {"log_loss": float(log_loss(wanted, probabilities, labels=numbers))},
            "words": {"judged": len(wanted), "unread": self.num_unread},
            "per_label": [
                {**asdict(score), "predicted": int(count)} for score, count in zip(scores, counts, strict=True)
            ],
            "spans": [asdict(score) for score in self._span_scores(prediction.answers)] if self._spans else None,
        }

    def calibration(self, prediction: Prediction[TagRow], temperature: float) -> dict[str, Any]:
        """Word by word."""
        read = np.concatenate([own for own in prediction.probabilities if len(own)])  # [words, C]
        right = np.equal(_joined(self.truth), _joined(prediction.answers))
        return calibration(with_logits_times(temperature, read).max(axis=1), right)

    def _spans_of(self, answer: TagRow) -> list[tuple[int, int, str]]:
        return spans_of([self._labels[tag] for tag in answer])

    def _span_scores(self, answers: Sequence[TagRow]) -> list[LabelScore]:
        """Of each kind of span: it is right when kind and both ends are."""
        kinds = sorted({kind for label in self._labels if (kind := span_kind(label))})
        tallies = {kind: [0, 0, 0] for kind in kinds}  # right, found, wanted
        for answer, true in zip(answers, self.truth, strict=True):
            found, wanted = set(self._spans_of(answer)), set(self._spans_of(true))
            for place, spans in enumerate((found & wanted, found, wanted)):
                for _, _, kind in spans:
                    tallies[kind][place] += 1
        return [
            LabelScore(kind, right / max(1, found), right / max(1, wanted), 2 * right / max(1, found + wanted), wanted)
            for kind, (right, found, wanted) in tallies.items()
        ]

    def mistakes(self, prediction: Prediction[TagRow]) -> list[Mistake]:
        """Rows by their surest wrong word."""
        found = []
        for row, (answer, true) in enumerate(zip(prediction.answers, self.truth, strict=True)):
            wrong = [
                float(prediction.probabilities[row][word, tag])
                for word, (tag, own) in enumerate(zip(answer, true, strict=True))
                if tag != own
            ]
            if wrong:
                found.append(Mistake(row, max(wrong)))
        return sorted(found, key=lambda mistake: -mistake.size)

    def baselines(self, training: Examples) -> Iterator[Baseline[TagRow]]:
        tagger = CommonestTag(training.rows["tokens"][:], training.rows["tags"][:])
        number = {label: index for index, label in enumerate(self._labels)}
        yield Baseline(
            "majority",
            f"always {tagger.commonest!r}, the commonest tag in training",
            [(number[tagger.commonest],) * len(true) for true in self.truth],
        )
        by_word = [
            tuple(number[tag] for tag in tagger.tag([words[word] for word in read]))
            for words, read in zip(self._words, self._read, strict=True)
        ]
        yield Baseline("usual tag", "the commonest tag of each word in the same training rows", by_word)

    def groups(self) -> Mapping[str, Sequence[int]]:
        """Rows by the kinds of span (or the tags) in them; a row may stand in several."""
        by_label: dict[str, list[int]] = {}
        for row, true in enumerate(self.truth):
            kinds = (
                {kind for _, _, kind in self._spans_of(true)} if self._spans else {self._labels[tag] for tag in true}
            )
            for kind in kinds:
                by_label.setdefault(kind, []).append(row)
        return dict(sorted(by_label.items()))

    def show(self, answer: TagRow) -> str:
        return " ".join(self._labels[tag] for tag in answer)

    def columns(self, prediction: Prediction[TagRow], row: int) -> dict[str, str | float]:
        """Words, tags and the probability of each tag given, separated by spaces."""
        own = prediction.probabilities[row]
        sure = (f"{own[word, tag]:.4f}" for word, tag in enumerate(prediction.answers[row]))
        return {
            "words": " ".join(self._words[row][word] for word in self._read[row]),
            "true": self.show(self.truth[row]),
            "predicted": self.show(prediction.answers[row]),
            "probabilities": " ".join(sure),
        }


def _joined(rows: Sequence[TagRow]) -> list[int]:
    return [tag for row in rows for tag in row]
