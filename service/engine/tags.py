"""Probabilities of each token to tags with a place in the text: by token, by word, or joined into spans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from model.tags import continues_span, mark_spans, span_kind
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

    A word takes the label of its first token, as such models are trained. Spans join words of one entity, as
    `model/tags.py` reads the labels, and leave "O" out; "auto" takes spans when the labels mark them.
    """
    if aggregation == "auto":
        aggregation = "span" if mark_spans(labels) else "word"
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
    """A label without a mark is a span of its own; none goes from one text of a pair into the other."""
    spans: list[list[Found]] = []
    before: Found | None = None
    for word in words:
        if before is not None and word.segment == before.segment and continues_span(word.label, before.label):
            spans[-1].append(word)
        elif word.label != "O":
            spans.append([word])
        before = word
    return [
        Found(
            span_kind(own[0].label) or own[0].label,
            float(np.mean([word.score for word in own])),
            own[0].start,
            own[-1].end,
            own[0].segment,
        )
        for own in spans
    ]
