"""In which order the parts of a line are seen: what of Unicode's bidirectional algorithm (UAX 9) a line of plain text
needs. Parts are runs of one font, or the units of a strip. Called by `fonts.py` and `running_text.py`.
"""

import unicodedata
from collections.abc import Sequence
from typing import Literal

Kind = Literal["left", "right", "number", "neutral"]  # that go from the left, from the right
KINDS: dict[str, Kind] = {"L": "left", "R": "right", "AL": "right", "EN": "number", "AN": "number"}
JOINS_NUMBERS = frozenset("+-,./:")
IGNORED = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})  # each text is its own paragraph


def kind_of(text: str) -> Kind:
    """That of its first letter or number."""
    return next((KINDS[way] for way in map(unicodedata.bidirectional, text) if way in KINDS), "neutral")


def reads_backwards(text: str) -> bool:
    """Of a paragraph: its first letter decides."""
    return next((way != "L" for way in map(unicodedata.bidirectional, text) if way in ("L", "R", "AL")), False)


def levels(parts: Sequence[str], base: bool, alone: Sequence[bool] | None = None) -> list[int]:
    """Even for parts that are read from the left. base: the paragraph is read from the right. alone: parts that have
    the paragraph's direction whatever their letters."""
    around: Kind = "right" if base else "left"
    kinds = [kind_of(part) for part in parts]
    for place in range(1, len(kinds) - 1):
        if kinds[place - 1] == kinds[place + 1] == "number" and parts[place] in JOINS_NUMBERS:
            kinds[place] = "number"
    kinds = [around if alone and alone[place] else kind for place, kind in enumerate(kinds)]
    last = around
    for place, kind in enumerate(kinds):
        if kind == "number" and last == "left":
            kinds[place] = "left"
        last = kind if kind in ("left", "right") else last
    return [_level(kind, base) for kind in _neutrals(kinds, around)]


def _neutrals(kinds: Sequence[Kind], around: Kind) -> list[Kind]:
    """Neutral parts take the direction of both their neighbours, or the paragraph's where they differ."""

    def seen(places: Sequence[int]) -> Kind:
        found = next((kinds[place] for place in places if kinds[place] != "neutral"), around)
        return "right" if found == "number" else found

    made: list[Kind] = []
    for place, kind in enumerate(kinds):
        before, after = seen(range(place - 1, -1, -1)), seen(range(place + 1, len(kinds)))
        made.append(kind if kind != "neutral" else before if before == after else around)
    return made


def _level(kind: Kind, base: bool) -> int:
    if kind == "number":
        return 2
    return 1 if kind == "right" else 2 * base


def seen_order(levels: Sequence[int]) -> list[int]:
    """Places from left to right."""
    order = list(range(len(levels)))
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = end + 1
    return order
