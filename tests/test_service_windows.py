"""Long texts in windows: every token is read, ends overlap, one answer comes of many."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.tokenizer import Encoding, Marks
from service.engine.windows import OVERLAP, Read, Texts, windowed, windows_of

CLS, SEP = 101, 102


def encoding(count: int) -> Encoding:
    """[CLS], so many tokens with the ids 0, 1, 2, ..., [SEP]."""
    total = count + 2
    marks = Marks(
        tokens=("",) * total,
        offsets=((0, 0), *((i, i + 1) for i in range(count)), (0, 0)),
        texts=(0,) * total,
        special=(True, *(False,) * count, True),
        words=(-1, *range(count), -1),
    )
    return Encoding((CLS, *range(1000, 1000 + count), SEP), (0,) * total, total, lambda: marks)


@given(count=st.integers(1, 400), max_length=st.integers(8, 64))
def test_windows_fit_and_overlap_and_lose_nothing(count: int, max_length: int) -> None:
    whole = encoding(count)
    windows = windows_of(whole, max_length)
    if len(whole.ids) <= max_length:
        assert [window.encoding.ids for window in windows] == [whole.ids]
        return
    room = max_length - 2
    read: list[int] = []
    for window in windows:
        ids = window.encoding.ids
        assert (ids[0], ids[-1], len(ids)) == (CLS, SEP, max_length)
        assert window.encoding.marks.offsets == tuple(whole.offsets[place] for place in window.places)
        assert [whole.ids[place] for place in window.places] == list(ids)
        assert not window.encoding.truncated
        read.append(ids[1])
        assert list(ids[1:-1]) == list(range(ids[1], ids[1] + room)), "a stretch of the text"
    assert read[0] == 1000
    assert read[-1] == 1000 + count - room
    shared = [room - (b - a) for a, b in itertools.pairwise(read)]
    assert min(shared) >= int(room * OVERLAP) - 1
    fewest = 1 + -(-(count - room) // int(room * (1 - OVERLAP)))
    assert len(windows) == fewest


def test_each_text_gets_the_rows_of_its_windows() -> None:
    texts = windowed([encoding(3), encoding(30), encoding(5)], 12)
    counts = [len(read.windows) for read in texts.reads]
    assert counts == [1, 4, 1]
    assert len(texts.encodings) == 6
    rows = [np.array([float(number)], dtype=np.float32) for number in range(6)]
    own = [[float(row[0]) for row in given_] for _, given_ in texts.own(rows)]
    assert own == [[0.0], [1.0, 2.0, 3.0, 4.0], [5.0]]


def test_the_mean_has_the_weight_of_the_tokens_and_a_vector_has_unit_length() -> None:
    long, short = windows_of(encoding(10), 12)[0], windows_of(encoding(2), 12)[0]
    text = Read(encoding(12), [long, short])  # 12 and 4 tokens
    rows = [np.array([1.0, 0.0], dtype=np.float32), np.array([0.0, 1.0], dtype=np.float32)]
    assert text.mean(rows) == pytest.approx([0.75, 0.25])
    assert text.unit_mean(rows) == pytest.approx(np.array([0.75, 0.25]) / np.hypot(0.75, 0.25))
    assert float(np.linalg.norm(text.unit_mean(rows))) == pytest.approx(1.0)


def test_one_window_changes_nothing() -> None:
    (text,) = Texts(windowed([encoding(3)], 12).reads).reads
    row = np.array([0.1, 0.7], dtype=np.float32)
    assert text.mean([row]) is row
    assert text.unit_mean([row]) is row
    assert text.by_token([row]) is row


def test_a_token_has_the_answer_of_the_window_that_shows_most_around_it() -> None:
    whole = encoding(20)
    windows = windows_of(whole, 12)
    text = Read(whole, windows)
    rows = [np.full((12, 1), float(number), dtype=np.float32) for number in range(len(windows))]
    joined = text.by_token(rows)[:, 0]
    assert len(joined) == 22
    assert (joined >= 0).all()
    for place in range(22):
        distances = [
            min(list(window.places).index(place), 11 - list(window.places).index(place))
            if place in window.places
            else -1
            for window in windows
        ]
        assert distances[int(joined[place])] == max(distances)
