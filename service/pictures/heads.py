"""The head view: what looks at what in one layer, as lines from the token that looks to the token it looks at.

Called by the attention route. A line's colour is its head, its strength the weight.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.pictures.canvas import Canvas, Sketch, Strand
from service.pictures.colors import FAINT, HEADS, INK
from service.pictures.fonts import shortened, text_width
from service.pictures.heatmap import (
    EDGE,
    NARROWEST,
    NOTE,
    WIDER,
    Picture,
    draw_head,
    head_height,
    head_lines,
    head_name,
)

ROW, SIZE = 22, 14
GAP = 260  # that the lines cross
LEAST = 0.05  # of the largest weight: what is below is left out
MOST_LINES = 1500
LETTERS = 22
MAX_HEADS = len(HEADS)
READING = "a line goes from the token that looks to the token it looks at"
SAMPLES = (0.1, 0.3, 1.0)  # of weights, in the legend
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeadsLayout:
    title: list[str]
    notes: list[str]
    labels: list[str]
    threshold: float
    legend: list[list[int]]  # places of heads, line by line
    left: float  # where the lines begin
    width: int

    @classmethod
    def of(cls, picture: Picture) -> "HeadsLayout":
        labels = [shortened(label, LETTERS) for label in picture.labels]
        words = WIDER * max(text_width(label, SIZE) for label in labels)
        left = EDGE + words + 10
        width = max(NARROWEST, round(left + GAP + 10 + words + EDGE))
        left = (width - GAP) / 2
        title, notes = head_lines(_title(picture), READING, width)
        per_line = max(1, (width - 2 * EDGE) // 84)
        places = list(range(len(picture.heads)))
        legend = [places[start : start + per_line] for start in range(0, len(places), per_line)]
        return cls(title, notes, labels, _threshold(picture), legend, left, width)

    @property
    def top(self) -> int:
        return head_height(self.title, self.notes) + 20 * len(self.legend) + 34

    @property
    def height(self) -> int:
        return self.top + ROW * len(self.labels) + 76

    def y(self, unit: int) -> float:
        return self.top + ROW * (unit + 0.5)


def _threshold(picture: Picture) -> float:
    """Not more lines than can be told apart and drawn in time."""
    weights = np.sort(picture.weights[0].ravel())
    least = LEAST * picture.top
    return max(least, float(weights[-MOST_LINES])) if len(weights) > MOST_LINES else least


def _strands(picture: Picture, layout: HeadsLayout) -> list[Strand]:
    """The strongest last, so that it lies above."""
    weights = picture.weights[0]  # [H, U, U]
    places = np.argwhere(weights >= layout.threshold)
    right = layout.left + GAP
    strands = []
    for head, looking, looked_at in places[np.argsort(weights[tuple(places.T)], kind="stable")].tolist():
        shift = _shift(head, len(weights))
        start, end = (layout.left, layout.y(looking) + shift), (right, layout.y(looked_at) + shift)
        opacity = opacity_of(float(weights[head, looking, looked_at]), picture.top)
        strands.append(Strand(start, end, 1.6, HEADS[head], opacity))
    return strands


def _shift(head: int, count: int) -> float:
    """Heads lie side by side within a row, so that equal lines do not hide each other."""
    return (head - (count - 1) / 2) * min(2.0, 0.7 * ROW / count)


def opacity_of(weight: float, top: float) -> float:
    return min(1.0, 0.06 + 0.94 * weight / top)


def heads_sketch(picture: Picture) -> Sketch:
    """Of a picture with one layer."""
    layout = HeadsLayout.of(picture)
    right = layout.left + GAP

    def draw(canvas: Canvas) -> None:
        draw_head(canvas, layout.title, layout.notes)
        _name_heads(canvas, picture, layout)
        canvas.text(layout.left - 10, layout.top - 12, "looks", NOTE, FAINT, "end")
        canvas.text(right + 10, layout.top - 12, "is looked at", NOTE, FAINT)
        canvas.strands(_strands(picture, layout))
        for unit, label in enumerate(layout.labels):
            canvas.text(layout.left - 10, layout.y(unit), label, SIZE, INK, "end")
            canvas.text(right + 10, layout.y(unit), label, SIZE)
        _explain_lines(canvas, picture, layout)

    return Sketch(layout.width, layout.height, _title(picture), draw)


def _title(picture: Picture) -> str:
    return f"{picture.title} · layer {picture.layers[0]}"


def _name_heads(canvas: Canvas, picture: Picture, layout: HeadsLayout) -> None:
    top = head_height(layout.title, layout.notes) + 8
    for line, places in enumerate(layout.legend):
        for column, place in enumerate(places):
            x, y = EDGE + 84 * column, top + 20 * line
            canvas.box(x, y - 6, 12, 12, HEADS[place], 2)
            canvas.text(x + 18, y, head_name(picture.heads[place]), NOTE, FAINT)


def _explain_lines(canvas: Canvas, picture: Picture, layout: HeadsLayout) -> None:
    y = layout.height - 48
    strands, x = [], float(EDGE)
    for share in SAMPLES:
        strands.append(Strand((x, y), (x + 30, y), 1.6, HEADS[0], opacity_of(share, 1.0)))
        canvas.text(x + 36, y, f"{share * picture.top:.2g}", NOTE, FAINT)
        x += 74
    canvas.strands(strands)
    canvas.text(x, y, picture.meaning, NOTE, FAINT)
    canvas.text(EDGE, y + 22, f"weights below {layout.threshold:.2g} are left out", NOTE, FAINT)
