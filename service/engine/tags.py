"""Probabilities of each token to tags with a place in the text: by token, by word, or joined into spans."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from model.tags import continues_span, mark_spans, span_kind
from model.tokenizer import Encoding
from service.engine.runner import Array

Aggregation = Literal["auto", "token", "word", "span"]


class Found(NamedTuple):
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
    places = _places(encoding, aggregation)
    firsts = [first for first, _ in places]
    of_firsts = probabilities[firsts]  # [N, C]
    best = of_firsts.argmax(axis=1)
    scores = of_firsts[np.arange(len(firsts)), best]
    offsets, texts = encoding.offsets, encoding.texts
    found = [
        Found(labels[label], score, offsets[first][0], offsets[last][1], texts[first])
        for (first, last), label, score in zip(places, best.tolist(), scores.tolist(), strict=True)
    ]
    return _spans(found) if aggregation == "span" else found


def _places(encoding: Encoding, aggregation: Aggregation) -> list[tuple[int, int]]:
    """The first and the last token of each word, or each token by itself."""
    places: list[tuple[int, int]] = []
    word_before: tuple[int, int] | None = None
    for index, (special, text, word) in enumerate(zip(encoding.special, encoding.texts, encoding.words, strict=True)):
        if special:
            continue
        if aggregation != "token" and (text, word) == word_before:
            places[-1] = (places[-1][0], index)
        else:
            places.append((index, index))
            word_before = (text, word)
    return places


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
            own[0].score if len(own) == 1 else float(np.mean([word.score for word in own])),
            own[0].start,
            own[-1].end,
            own[0].segment,
        )
        for own in spans
    ]
