"""Tags that mark spans of words, as training scores them and /v1/tag joins them.

BIO (Ramshaw and Marcus 1995), and the notations that also mark a span's end and spans of one word: BIOES, BMES, BILOU,
BIOS.
"""

from collections.abc import Container, Iterable, Sequence

SINGLE = ("S", "U")  # of one word
BEGIN = ("B", *SINGLE)
INSIDE = ("I", "M")
LAST = ("E", "L")


def mark_spans(labels: Iterable[str]) -> bool:
    """Whether a model's labels are written so."""
    return any(label.startswith(("B-", "I-")) for label in labels)


def span_kind(tag: str) -> str:
    """PER of B-PER; empty for a tag without a mark, such as O."""
    mark, _, kind = tag.partition("-")
    return kind if mark in (*BEGIN, *INSIDE, *LAST) else ""


def continues_span(tag: str, before: str) -> bool:
    """Whether a word is of the same span as the word before it.

    An I- or E- that continues nothing of its kind begins a span, as CoNLL's scorer counts it, and so does an E- where
    one has ended. An I- there goes on with it: it is a later part of a word tagged S- or E-, see `tag_inside`.
    """
    kind = span_kind(tag)
    if not kind or kind != span_kind(before):
        return False
    mark, mark_before = tag.partition("-")[0], before.partition("-")[0]
    return mark in INSIDE or (mark in LAST and mark_before not in (*LAST, *SINGLE))


def tag_inside(tag: str, labels: Container[str]) -> str:
    """The tag of a word's later parts: what goes on with the word's span, where the labels have it, else its own."""
    kind = span_kind(tag)
    return next((later for mark in INSIDE if kind and (later := f"{mark}-{kind}") in labels), tag)


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """(first word, word after the last, kind) of each span."""
    spans: list[tuple[int, int, str]] = []
    for place, tag in enumerate(tags):
        if place and continues_span(tag, tags[place - 1]):
            start, _, kind = spans[-1]
            spans[-1] = (start, place + 1, kind)
        elif kind := span_kind(tag):
            spans.append((place, place + 1, kind))
    return spans
