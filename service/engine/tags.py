"""Probabilities of each token to tags with a place in the text: by token, by word, or joined into spans."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

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

    A word takes the label of its first token, as such models are trained. Spans join words of one entity in the
    B-/I- notation (Ramshaw and Marcus 1995) and leave "O" out; "auto" takes spans when the labels are written so.
    """
    if aggregation == "auto":
        aggregation = "span" if any(label.startswith(("B-", "I-")) for label in labels) else "word"
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
    spans: list[tuple[str, list[Found]]] = []  # each with its label
    open_span = False
    for word in words:
        prefix, _, kind = word.label.partition("-")
        if prefix not in ("B", "I") or not kind:
            open_span = False
            if word.label != "O":  # a label without the notation is a span of its own
                spans.append((word.label, [word]))
        elif open_span and prefix == "I" and spans[-1][0] == kind and spans[-1][1][0].segment == word.segment:
            spans[-1][1].append(word)
        else:
            spans.append((kind, [word]))
            open_span = True
    return [_joined(label, members) for label, members in spans]


def _joined(label: str, words: Sequence[Found]) -> Found:
    first, last = words[0], words[-1]
    score = first.score if len(words) == 1 else float(np.mean([word.score for word in words]))
    return Found(label, score, first.start, last.end, first.segment)
