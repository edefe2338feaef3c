"""Which words make a span, by hand, in every notation."""

import pytest

from model.tags import mark_spans, spans_of, tag_inside


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-A I-A O", [(1, 3, "A")]),
        ("B-A B-A", [(0, 1, "A"), (1, 2, "A")]),
        ("B-A I-B", [(0, 1, "A"), (1, 2, "B")]),
        ("B-A I-B I-A", [(0, 1, "A"), (1, 2, "B"), (2, 3, "A")]),
        ("B-A O I-A", [(0, 1, "A"), (2, 3, "A")]),
        ("I-A I-A", [(0, 2, "A")]),
        ("n v", []),
        ("B- I- -A", []),
        ("", []),
        ("B-A I-A E-A S-A O S-B", [(0, 3, "A"), (3, 4, "A"), (5, 6, "B")]),  # BIOES
        ("B-A E-A B-A M-A M-A E-A", [(0, 2, "A"), (2, 6, "A")]),  # BMES
        ("B-A I-A L-A U-A U-B", [(0, 3, "A"), (3, 4, "A"), (4, 5, "B")]),  # BILOU
        ("S-A S-A B-A I-A S-A", [(0, 1, "A"), (1, 2, "A"), (2, 4, "A"), (4, 5, "A")]),  # BIOS
        ("E-A M-A-1 O L-A", [(0, 1, "A"), (1, 2, "A-1"), (3, 4, "A")]),  # none was begun
        ("B-A E-A E-A O S-A E-A", [(0, 2, "A"), (2, 3, "A"), (4, 5, "A"), (5, 6, "A")]),  # one had ended
        ("S-A I-A I-A O E-A M-A", [(0, 3, "A"), (4, 6, "A")]),  # later parts of a word tagged S-, or E-
    ],
)  # fmt: skip
def test_spans_by_hand(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert spans_of(tags.split()) == spans


@pytest.mark.parametrize(
    ("tag", "labels", "inside"),
    [
        ("B-A", {"B-A", "I-A", "O"}, "I-A"),
        ("B-A", {"B-A", "I-B", "O"}, "B-A"),
        ("S-A", {"B-A", "I-A", "E-A", "S-A"}, "I-A"),
        ("E-A", {"B-A", "M-A", "E-A", "S-A"}, "M-A"),
        ("I-A", {"B-A", "I-A"}, "I-A"),
        ("O", {"B-A", "I-A", "O"}, "O"),
        ("noun", {"noun", "I-"}, "noun"),
    ],
)
def test_a_words_later_parts_go_on_with_its_span(tag: str, labels: set[str], inside: str) -> None:
    assert tag_inside(tag, labels) == inside


def test_labels_that_mark_spans_are_told_from_others() -> None:
    assert mark_spans(["O", "B-A"])
    assert mark_spans(["O", "I-A"])
    assert not mark_spans(["noun", "E-mail", "O", "B"])
