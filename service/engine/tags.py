"""Probabilities of each token to tags with a place in the text: by token, by word, or joined into spans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from model.tokenizer import Encoding
from service.engine.runner import Array

Aggregation = Literal["auto", "token", "word", "span"]


@dataclass(frozen=True)
class Found:
    """One label and where it stands: characters [start, end) of the text, or of one text of a pair."""

    label: str
    score: float
    start: int
    end: int
    segment: int


def find_tags(encoding: Encoding, probabilities: Array, labels: Sequence[str], aggregation: Aggregation) -> list[Found]:
    """probabilities [T, C] of one text -> its tags, in order; special tokens have none.

    A word takes the label of its first token, as such models are trained. Spans join words of one entity in the
    B-/I- notation (Ramshaw and Marcus 1995) and leave "O" out; "auto" takes spans when the labels are written so.
    """
    if aggregation == "auto":
        aggregation = "span" if any(label.startswith(("B-", "I-")) for label in labels) else "word"
    found: list[Found] = []
    word_before: tuple[int, int] | None = None
    for index, (start, end) in enumerate(encoding.offsets):
        if encoding.special[index]:
            continue
        word = (encoding.texts[index], encoding.words[index])
        if aggregation != "token" and word == word_before:
            found[-1] = replace(found[-1], end=end)
            continue
        best = int(np.argmax(probabilities[index]))
        found.append(Found(labels[best], float(probabilities[index][best]), start, end, word[0]))
        word_before = word
    return _spans(found) if aggregation == "span" else found


def _spans(words: Sequence[Found]) -> list[Found]:
    spans: list[Found] = []
    scores: list[list[float]] = []
    open_span = False
    for word in words:
        prefix, _, kind = word.label.partition("-")
        if prefix not in ("B", "I") or not kind:
            open_span = False
            if word.label != "O":  # a label without the notation is a span of its own
                spans.append(word)
                scores.append([word.score])
            continue
        continues = open_span and prefix == "I" and spans[-1].label == kind and spans[-1].segment == word.segment
        if continues:
            spans[-1] = replace(spans[-1], end=word.end)
            scores[-1].append(word.score)
        else:
            spans.append(replace(word, label=kind))
            scores.append([word.score])
            open_span = True
    return [replace(span, score=float(np.mean(values))) for span, values in zip(spans, scores, strict=True)]
