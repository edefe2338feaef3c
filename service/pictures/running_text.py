"""Running text set in lines, unit by unit: what a saliency strip colours. Called by `saliency.py`.

Lines are broken between words, in Chinese between characters, and a text that reads from right to left is set so.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from model.explain.units import Unit
from service.pictures.fonts import SIGNS, shortened, text_width
from service.pictures.lines import fitted
from service.pictures.reading_order import kind_of, levels, reads_backwards, seen_order

SIZE, SPECIAL_SIZE = 17, 12  # of letters, and of those of special tokens
MOST_LETTERS = 200  # more fill any line
SPACE = 5.0  # of white space between words
JOINER = "\u200d"
NO_LINE_BEGINS_WITH = frozenset("，。、；：！？）》」』】〉”’…,.;:!?)]}%،؛؟")


@dataclass(frozen=True)
class Piece:
    """A unit as it is drawn."""

    text: str
    score: float
    segment: int
    start: int
    end: int
    special: bool
    letters: float  # how wide they are
    pads: tuple[float, float]  # beside the letters: less where a word goes on

    @property
    def width(self) -> float:
        return self.letters + sum(self.pads)


def pieces_of(texts: Sequence[str], units: Sequence[Unit], scores: Sequence[float]) -> list[Piece]:
    """Units of one place, such as the bytes of an emoji, become one piece whose score is their sum."""
    pieces = []
    together = groupby(
        zip(units, scores, strict=True),
        lambda pair: (pair[0].segment, pair[0].start, pair[0].end, pair[0].special and pair[0].text),
    )
    for (segment, start, end, special), members in together:
        found = list(members)
        source = texts[segment]
        text = found[0][0].text if special or end <= start else source[start:end]
        shown = "".join(SIGNS.get(character, character) for character in text)
        pads = (3.0, 3.0)
        if not special:
            before, after = source[max(0, start - 1) : start], source[end : end + 1]
            shown = _joined(shown, before, after)
            pads = (1.0 if _goes_on(before, text[:1]) else 3.0, 1.0 if _goes_on(text[-1:], after) else 3.0)
            pads = pads[::-1] if kind_of(text) == "right" else pads
        letters = text_width(shown, SPECIAL_SIZE if special else SIZE)
        pieces.append(
            Piece(shown, float(sum(score for _, score in found)), segment, start, end, bool(special), letters, pads)
        )
    return pieces


def _goes_on(before: str, after: str) -> bool:
    """Whether a word does, from one unit to the next."""
    both = before + after
    wide = any(unicodedata.east_asian_width(character) in ("W", "F") for character in both)
    return len(both) == 2 and not wide and all(unicodedata.category(character)[0] in "LMN" for character in both)


def _joined(text: str, before: str, after: str) -> str:
    """A part of an Arabic word keeps the forms its letters have within the word."""
    first = JOINER if _is_arabic(before) and _is_arabic(text[:1]) else ""
    last = JOINER if _is_arabic(after) and _is_arabic(text[-1:]) else ""
    return first + text + last


def _is_arabic(character: str) -> bool:
    return (
        bool(character) and unicodedata.bidirectional(character) == "AL" and unicodedata.category(character)[0] == "L"
    )


@dataclass(frozen=True)
class Placed:
    piece: Piece
    x: float
    line: int
    backwards: bool


@dataclass(frozen=True)
class Setting:
    """Where each unit of a text is, in lines of at most a width."""

    placed: list[Placed]
    num_lines: int

    @classmethod
    def of(cls, texts: Sequence[str], pieces: Sequence[Piece], room: float) -> "Setting":
        placed: list[Placed] = []
        line = 0
        for segment in sorted({piece.segment for piece in pieces}):
            text = texts[segment]
            own = [_fitting(piece, room) for piece in pieces if piece.segment == segment]
            for row in _lines(own, text, room):
                placed += _row(row, text, room, line)
                line += 1
        return cls(placed, line)


def _fitting(piece: Piece, room: float) -> Piece:
    """A unit that is wider than a line, such as a word without end, shows its beginning."""
    if piece.width <= room:
        return piece
    size = SPECIAL_SIZE if piece.special else SIZE
    shown = fitted(shortened(piece.text, MOST_LETTERS), room - sum(piece.pads), size)
    return replace(piece, text=shown, letters=text_width(shown, size))


def _lines(pieces: Sequence[Piece], text: str, room: float) -> list[list[Piece]]:
    """Broken at white space, beside a Chinese or Japanese character, at a new line of the text, and anywhere in a word
    that is wider than a line."""
    lines: list[list[Piece]] = [[]]
    for word in _words(pieces, text):
        gap = _gap(lines[-1][-1], word[0], text) if lines[-1] else 0.0
        newline = lines[-1] and "\n" in _between(lines[-1][-1], word[0], text)
        used = _width(lines[-1], text) + gap
        if lines[-1] and (newline or used + _width(word, text) > room):
            lines.append([])
        for piece in word:
            if lines[-1] and _width([*lines[-1], piece], text) > room:
                lines.append([])
            lines[-1].append(piece)
    return [line for line in lines if line]


def _words(pieces: Sequence[Piece], text: str) -> list[list[Piece]]:
    """Pieces between which no line is broken."""
    words: list[list[Piece]] = []
    for piece in pieces:
        if words and not _breaks(words[-1][-1], piece, text):
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def _breaks(before: Piece, after: Piece, text: str) -> bool:
    if before.special or after.special or _between(before, after, text):
        return True
    first, last = text[after.start : after.start + 1], text[before.end - 1 : before.end]
    wide = any(unicodedata.east_asian_width(character) in ("W", "F") for character in (first, last) if character)
    return wide and first not in NO_LINE_BEGINS_WITH


def _between(before: Piece, after: Piece, text: str) -> str:
    return "" if before.special or after.special else text[before.end : after.start]


def _gap(before: Piece, after: Piece, text: str) -> float:
    if before.special or after.special:
        return SPACE + 2
    return SPACE if _between(before, after, text) else 0.5


def _width(pieces: Sequence[Piece], text: str) -> float:
    gaps = sum(_gap(*pair, text) for pair in pairwise(pieces))
    return sum(piece.width for piece in pieces) + gaps


def _row(pieces: Sequence[Piece], text: str, room: float, line: int) -> list[Placed]:
    """A line, each piece in the place where it is read."""
    base = reads_backwards(text)
    own = levels([piece.text for piece in pieces], base, [piece.special for piece in pieces])
    order = seen_order(own)
    gaps = [0.0, *(_seen_gap(pieces, first, second, text) for first, second in pairwise(order))]
    x = room - sum(gaps) - sum(piece.width for piece in pieces) if base else 0.0
    placed = []
    for place, gap in zip(order, gaps, strict=True):
        placed.append(Placed(pieces[place], x + gap, line, own[place] % 2 == 1))
        x += gap + pieces[place].width
    return placed


def _seen_gap(pieces: Sequence[Piece], first: int, second: int, text: str) -> float:
    """Between neighbours on the line, which in the text may have others between them."""
    between = range(min(first, second), max(first, second))
    return min(_gap(pieces[place], pieces[place + 1], text) for place in between)
