"""Two pictures and their difference: heatmaps of the same tokens, and saliency strips one above the other.

Called by the compare route. Orange is where the second has less, blue where it has more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.pictures.canvas import Canvas, Sketch
from service.pictures.colors import FAINT
from service.pictures.fonts import shortened
from service.pictures.heatmap import TITLE, Picture
from service.pictures.lines import fitted, wrapped
from service.pictures.saliency import (
    MARGIN,
    NOTE_HEIGHT,
    WIDTH,
    SaliencyPicture,
    Strip,
    draw_legend,
    power_of_ten,
)

NAME_LETTERS = 60  # of a side, which may be a whole text
READING = "row: the one that looks · column: the one it looks at"


def difference_of(left: Picture, right: Picture, names: tuple[str, str], title: str) -> Picture:
    """right - left, for `attention_png` and `attention_svg`. names: of the two, such as "base" and "tuned". Raises
    ValueError unless both have the same rows, layers and heads."""
    for what in ("labels", "layers", "heads"):
        ours, theirs = list(getattr(left, what)), list(getattr(right, what))
        if ours != theirs:
            raise ValueError(f"{what} {ours[:6]} and {theirs[:6]} differ; compare the same tokens, layers and heads")
    weights = right.weights - left.weights
    top = float(np.abs(weights).max()) or 1.0
    meaning = f"difference of the {left.meaning}"
    first, second = (shortened(name, NAME_LETTERS).replace("␣", " ") for name in names)
    sides = (f"{second} less than {first}", f"{second} more")
    made = replace(right, weights=weights, title=title, note=READING, meaning=meaning, top=top)
    return replace(made, signed=True, sides=sides)


@dataclass(frozen=True)
class StripsPicture:
    """Saliency strips of one scale, one above the other, and their difference where the units are the same."""

    title: str
    names: tuple[str, str]  # of the two, such as "base" and "tuned"
    first: SaliencyPicture
    second: SaliencyPicture
    notes: Sequence[str] = ()

    @property
    def difference(self) -> SaliencyPicture | None:
        """second - first; None where the texts or their units differ."""
        same = list(self.first.texts) == list(self.second.texts) and _places(self.first) == _places(self.second)
        if not same:
            return None
        scores = [after - before for before, after in zip(self.first.scores, self.second.scores, strict=True)]
        return replace(self.second, scores=scores, notes=())


def _places(picture: SaliencyPicture) -> list[tuple[int, int, int, str]]:
    return [(unit.segment, unit.start, unit.end, unit.text if unit.special else "") for unit in picture.units]


HEADING = 30  # height of a strip's name


def strips_sketch(picture: StripsPicture) -> Sketch:
    room = WIDTH - 2 * MARGIN
    first, second = picture.names
    shown = [(first, picture.first), (second, picture.second)]
    if picture.difference is not None:
        shown.append((f"{second} minus {first}", picture.difference))
    strips = [(name, _lines(saliency.notes, room), Strip.of(saliency)) for name, saliency in shown]
    title = wrapped(picture.title, room, TITLE)
    notes = _lines(picture.notes, room)
    top = max(saliency.top for _, saliency in shown)
    factor = power_of_ten(top)
    text_top = 26 + 24 * len(title)
    legend_top = text_top + sum(HEADING + NOTE_HEIGHT * len(own) + strip.height for _, own, strip in strips) + 18
    height = math.ceil(legend_top + 50 + NOTE_HEIGHT * len(notes))

    def draw(canvas: Canvas) -> None:
        for index, line in enumerate(title):
            canvas.text(MARGIN, 28 + 24 * index, line, TITLE)
        y = float(text_top)
        for name, own, strip in strips:
            canvas.text(MARGIN, y + 12, fitted(shortened(name, NAME_LETTERS).replace("␣", " "), room, 14), 14)
            for index, line in enumerate(own):
                canvas.text(MARGIN, y + 31 + NOTE_HEIGHT * index, line, 12, FAINT)
            y += HEADING + NOTE_HEIGHT * len(own)
            strip.draw(canvas, y, top, factor)
            y += strip.height
        draw_legend(canvas, MARGIN, legend_top, top, factor, picture.second.target, picture.second.against)
        for index, line in enumerate(notes):
            canvas.text(MARGIN, legend_top + 46 + NOTE_HEIGHT * index, line, 12, FAINT)

    return Sketch(WIDTH, height, picture.title, draw)


def _lines(notes: Sequence[str], room: float) -> list[str]:
    return [line for note in notes for line in wrapped(note, room, 12)]


def strips_png(picture: StripsPicture) -> bytes:
    return strips_sketch(picture).png()


def strips_svg(picture: StripsPicture) -> bytes:
    return strips_sketch(picture).svg()
