"""A saliency strip: the running text, each unit coloured by what it adds to the answer or takes from it.

Called by the explain route and by `comparison.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.explain.units import Unit
from service.pictures.canvas import Anchor, Canvas, Sketch
from service.pictures.colors import FAINT, INK, LINE, signed_color
from service.pictures.fonts import shortened, text_width
from service.pictures.lines import fitted, wrapped
from service.pictures.running_text import SIZE, SPECIAL_SIZE, Piece, Setting, pieces_of

WIDTH, MARGIN = 760, 24
SMALL = 9  # of numbers
BOX, LINE_HEIGHT = 26, 44  # of a unit's colour, and from line to line
MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")  # what opens and closes, among right-to-left words


@dataclass(frozen=True)
class SaliencyPicture:
    """Signed scores of the units of a text or pair."""

    texts: Sequence[str]
    units: Sequence[Unit]
    scores: Sequence[float]
    title: str  # the model and the method
    target: str  # the label for which positive scores speak
    against: str | None = None  # the label that it is held against
    notes: Sequence[str] = ()  # on the value, and how faithful the scores are: see `faithfulness_note`

    @property
    def pieces(self) -> list[Piece]:
        return pieces_of(self.texts, self.units, self.scores)

    @property
    def top(self) -> float:
        """The size of score that has the deepest colour."""
        return max((abs(piece.score) for piece in self.pieces), default=0.0) or 1.0


def faithfulness_note(verdict: str, comprehensiveness: tuple[float, float], sufficiency: tuple[float, float]) -> str:
    """One line. verdict: such as "better than random"; each pair: the figure of these scores, and of random ones."""
    figures = [
        f"{name} {ours:.2f}, random {chance:.2f}"
        for name, (ours, chance) in (("comprehensiveness", comprehensiveness), ("sufficiency", sufficiency))
    ]
    return f"faithfulness: {verdict} ({'; '.join(figures)})"


@dataclass(frozen=True)
class Strip:
    """The coloured text of a picture, at its place."""

    setting: Setting

    @classmethod
    def of(cls, picture: SaliencyPicture) -> "Strip":
        return cls(Setting.of(picture.texts, picture.pieces, WIDTH - 2 * MARGIN))

    @property
    def height(self) -> float:
        return self.setting.num_lines * LINE_HEIGHT

    def draw(self, canvas: Canvas, top: float, scale: float, factor: int) -> None:
        """scale: the score of the deepest colour. factor: numbers are shown times ten to this power."""
        for placed in self.setting.placed:
            piece, x, y = placed.piece, MARGIN + placed.x, top + placed.line * LINE_HEIGHT
            fill = signed_color(piece.score, scale)
            edge = LINE if piece.special else None
            canvas.box(x, y, piece.width, BOX, fill, 3, edge)
            size, color = (SPECIAL_SIZE, FAINT) if piece.special else (SIZE, INK)
            color = INK if piece.special and abs(piece.score) > 0.5 * scale else color
            text = piece.text.translate(MIRRORED) if placed.backwards and not piece.special else piece.text
            canvas.text(x + piece.pads[0], y + BOX / 2, text, size, color, fit=piece.letters)
            number = _number(piece.score * 10**factor)
            if text_width(number, SMALL) < piece.width and abs(piece.score) >= 0.01 * scale:
                canvas.text(x + piece.width / 2, y + BOX + 7, number, SMALL, FAINT, "middle")


def _number(score: float) -> str:
    """Two digits after the point, without the 0 before it."""
    digits = f"{abs(score):.2f}" if abs(score) < 10 else f"{abs(score):.0f}"
    return ("−" if score < 0 else "+") + digits.removeprefix("0")


def power_of_ten(top: float) -> int:
    """By which scores are multiplied to be shown in few digits: 0 where the largest is between 0.1 and 10."""
    return 0 if 0.1 <= top < 10 else -1 - math.floor(math.log10(top))


LEGEND_WIDTH, NOTE_HEIGHT = 240, 18
LABEL_WIDTH = 66.0  # of a label in a legend that has no room for it all


def draw_legend(canvas: Canvas, x: float, y: float, top: float, factor: int, target: str, against: str | None) -> None:
    """The colours, what either side speaks for, and the numbers at the ends."""
    canvas.tiles(np.arange(1, 256, dtype=np.uint8)[None], x, y, LEGEND_WIDTH, 12, signed=True)
    ends: tuple[tuple[float, str, Anchor], ...] = (
        (0, _number(-top * 10**factor), "start"),
        (LEGEND_WIDTH / 2, "0", "middle"),
        (LEGEND_WIDTH, _number(top * 10**factor), "end"),
    )
    for place, number, anchor in ends:
        canvas.text(x + place, y + 22, number, 11, FAINT, anchor)
    times = f" · numbers ×10{_raised(-factor)}" if factor else ""
    words = _sides(target, against) + times
    start = x + LEGEND_WIDTH + 16
    if text_width(words, 12) > WIDTH - MARGIN - start:
        words = _sides(_shown(target), against and _shown(against)) + times
    canvas.text(start, y + 6, words, 12, FAINT)


def _shown(label: str) -> str:
    return fitted(shortened(label, 60).replace("␣", " "), LABEL_WIDTH, 12)


def _sides(target: str, against: str | None) -> str:
    other = f"for {against}" if against else f"against {target}"
    return f"orange: {other} · white: neither · blue: for {target}"


def _raised(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def saliency_sketch(picture: SaliencyPicture) -> Sketch:
    strip = Strip.of(picture)
    room = WIDTH - 2 * MARGIN
    title = wrapped(picture.title, room, 17)
    notes = [line for note in picture.notes for line in wrapped(note, room, 12)]
    text_top = 30 + 24 * len(title)
    legend_top = text_top + strip.height + 18
    height = math.ceil(legend_top + 40 + NOTE_HEIGHT * len(notes) + 10)
    top = picture.top
    factor = power_of_ten(top)

    def draw(canvas: Canvas) -> None:
        for index, line in enumerate(title):
            canvas.text(MARGIN, 28 + 24 * index, line, 17)
        strip.draw(canvas, text_top, top, factor)
        draw_legend(canvas, MARGIN, legend_top, top, factor, picture.target, picture.against)
        for index, line in enumerate(notes):
            canvas.text(MARGIN, legend_top + 46 + NOTE_HEIGHT * index, line, 12, FAINT)

    return Sketch(WIDTH, height, picture.title, draw)


def saliency_png(picture: SaliencyPicture) -> bytes:
    return saliency_sketch(picture).png()


def saliency_svg(picture: SaliencyPicture) -> bytes:
    return saliency_sketch(picture).svg()
