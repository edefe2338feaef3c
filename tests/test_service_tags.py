"""Token probabilities to tags: by token, by word, by span."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.tags import continues_span, span_kind
from model.tokenizer import Encoding, Marks
from service.engine.tags import Aggregation, Found, find_tags

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER", "E-LOC", "S-LOC", "misc")


def encoding(words: list[int], texts: list[int] | None = None) -> Encoding:
    """[CLS], then two-letter tokens of these words, then [SEP]."""
    count = len(words)
    offsets = ((0, 0), *((2 * i, 2 * i + 2) for i in range(count)), (0, 0))
    marks = Marks(
        tokens=("",) * (count + 2),
        offsets=offsets,
        texts=(0, *(texts or [0] * count), 0),
        special=(True, *(False,) * count, True),
        words=(-1, *words, -1),
    )
    zeros = (0,) * (
        count + 2
    )  # also the segments, as in RoBERTa, whose token types don't tell the texts of a pair apart
    return Encoding(ids=zeros, segments=zeros, full_length=count + 2, make_marks=lambda: marks)


def probabilities(labels: list[str], scores: list[float] | None = None) -> np.ndarray:
    rows = np.full((len(labels) + 2, len(LABELS)), 0.01, dtype=np.float32)
    for row, (label, score) in enumerate(zip(labels, scores or [0.9] * len(labels), strict=True), start=1):
        rows[row, LABELS.index(label)] = score
    return rows


def found(
    kind: Aggregation, words: list[int], labels: list[str], texts: list[int] | None = None
) -> list[tuple[str, int, int]]:
    tags = find_tags(encoding(words, texts), probabilities(labels), LABELS, kind)
    return [(tag.label, tag.start, tag.end) for tag in tags]


def test_every_token_has_its_own_tag() -> None:
    assert found("token", [0, 0, 1], ["B-LOC", "O", "O"]) == [("B-LOC", 0, 2), ("O", 2, 4), ("O", 4, 6)]


def test_a_word_takes_the_label_of_its_first_token() -> None:
    assert found("word", [0, 0, 1], ["B-LOC", "O", "O"]) == [("B-LOC", 0, 4), ("O", 4, 6)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-LOC", "I-LOC", "O"], [("LOC", 0, 4)]),
        (["B-LOC", "B-LOC", "O"], [("LOC", 0, 2), ("LOC", 2, 4)]),
        (["I-LOC", "I-LOC", "O"], [("LOC", 0, 4)]),  # a span that forgot its B still is one
        (["B-LOC", "I-PER", "O"], [("LOC", 0, 2), ("PER", 2, 4)]),
        (["B-LOC", "O", "I-LOC"], [("LOC", 0, 2), ("LOC", 4, 6)]),
        (["O", "O", "O"], []),
        (["B-LOC", "E-LOC", "S-LOC"], [("LOC", 0, 4), ("LOC", 4, 6)]),
        (["S-LOC", "I-LOC", "S-LOC"], [("LOC", 0, 4), ("LOC", 4, 6)]),  # U.S. and another
        (["misc", "misc", "B-LOC"], [("misc", 0, 2), ("misc", 2, 4), ("LOC", 4, 6)]),  # a label without a mark
    ],
)
def test_spans_join_words_of_one_entity(labels: list[str], expected: list[tuple[str, int, int]]) -> None:
    assert found("span", [0, 1, 2], labels) == expected
    assert found("auto", [0, 1, 2], labels) == expected


def test_a_span_never_crosses_from_one_text_of_a_pair_to_the_other() -> None:
    assert found("span", [0, 0], ["B-LOC", "I-LOC"], texts=[0, 1]) == [("LOC", 0, 2), ("LOC", 2, 4)]


def test_a_spans_score_is_the_mean_of_its_words() -> None:
    tags = find_tags(encoding([0, 1]), probabilities(["B-LOC", "I-LOC"], [0.5, 0.7]), LABELS, "span")
    assert [(tag.label, round(tag.score, 4)) for tag in tags] == [("LOC", 0.6)]
    assert isinstance(tags[0], Found)


def test_labels_without_the_notation_are_given_by_word() -> None:
    labels = ("noun", "verb")
    rows = np.array([[0, 1], [0.8, 0.2], [0.1, 0.9], [0, 1]], dtype=np.float32)
    tags = find_tags(encoding([0, 1]), rows, labels, "auto")
    assert [tag.label for tag in tags] == ["noun", "verb"]


def plain_words(text: Encoding, rows: np.ndarray, labels: tuple[str, ...], kind: Aggregation) -> list[Found]:
    """Token by token."""
    words: list[Found] = []
    word_before: tuple[int, int] | None = None
    for index, (start, end) in enumerate(text.offsets):
        if text.special[index]:
            continue
        word = (text.texts[index], text.words[index])
        if kind != "token" and word == word_before:
            words[-1] = words[-1]._replace(end=end)
            continue
        best = int(np.argmax(rows[index]))
        words.append(Found(labels[best], float(rows[index][best]), start, end, word[0]))
        word_before = word
    return words


def plain_spans(words: list[Found]) -> list[Found]:
    spans: list[Found] = []
    scores: list[list[float]] = []
    for before, word in zip([None, *words], words, strict=False):
        if before and before.segment == word.segment and continues_span(word.label, before.label):
            spans[-1] = spans[-1]._replace(end=word.end)
            scores[-1].append(word.score)
        elif word.label != "O":
            spans.append(word._replace(label=span_kind(word.label) or word.label))
            scores.append([word.score])
    return [span._replace(score=float(np.mean(values))) for span, values in zip(spans, scores, strict=True)]


@given(
    words=st.lists(st.integers(0, 1), max_size=40),
    second=st.integers(0, 40),
    kind=st.sampled_from(["token", "word", "span"]),
    seed=st.integers(0, 1000),
)
def test_tags_are_those_of_the_plain_way(words: list[int], second: int, kind: Aggregation, seed: int) -> None:
    numbers = np.cumsum(words).tolist()  # a 0 goes on with the word before
    text = encoding(numbers, [int(place >= second) for place in range(len(words))])
    rows = np.random.default_rng(seed).random((len(words) + 2, 6), dtype=np.float32)
    labels = (*LABELS, "ODD")
    expected = plain_words(text, rows, labels, kind)
    assert find_tags(text, rows, labels, kind) == (plain_spans(expected) if kind == "span" else expected)
