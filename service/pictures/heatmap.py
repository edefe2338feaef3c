"""Attention as colours: one layer and head as a labelled heatmap, more as a grid of tiles; differences of two as well.

Called by the attention route, and by `comparison.py` and `animation.py`. In milliseconds: a byte a pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.pictures.canvas import IndexedCanvas, Plain, Sketch, png_bytes
from service.pictures.colors import FAINT, Levels, levels_of
from service.pictures.fonts import SCALE, shortened, text_width
from service.pictures.lines import wrapped

EDGE, NARROWEST = 24, 520
TITLE, NOTE = 17, 12  # sizes of letters
LINE = 18  # from one line of notes to the next
WIDER = 1.15  # than ours the font may be with which an SVG is shown
LEGEND_WIDTH = 256
ROOM = 1100  # that the cells of a labelled heatmap take at most, where they can be read
TILE = 80  # pixels that the side of a tile has at least


@dataclass(frozen=True)
class Picture:
    """Attention to be drawn."""

    weights: npt.NDArray[np.float32]  # [L, H, U, U]
    labels: Sequence[str]  # of the U rows and columns
    layers: Sequence[int]
    heads: Sequence[int | str]
    title: str
    note: str  # on what a row is
    meaning: str  # of a number
    top: float = 1.0  # the number that has the last colour
    signed: bool = False  # colours from -top over white to top
    sides: tuple[str, str] = ("", "")  # of a difference: what orange means, what blue

    @property
    def single(self) -> bool:
        return self.weights.shape[:2] == (1, 1)

    @property
    def caption(self) -> str:
        if self.single:
            return f"{self.title} · layer {self.layers[0]}, {head_name(self.heads[0])}"
        return f"{self.title} · {len(self.labels)} rows and columns a tile"

    @cached_property
    def levels(self) -> Levels:
        """Places in the colour table [L, H, U, U]."""
        return levels_of(self.weights, self.top, self.signed)


def head_name(head: int | str) -> str:
    return "all heads" if head == "all" else f"head {head}"


def attention_png(picture: Picture) -> bytes:
    return png_bytes(attention_image(picture), level=1)


def attention_image(picture: Picture) -> Image.Image:
    sketch = attention_sketch(picture)
    canvas = IndexedCanvas(sketch.width, sketch.height, picture.signed)
    _draw(picture, canvas)
    return canvas.image


def attention_svg(picture: Picture) -> bytes:
    return attention_sketch(picture).svg()


def attention_sketch(picture: Picture) -> Sketch:
    layout = _layout(picture)
    return Sketch(layout.width, layout.height, picture.caption, lambda canvas: _draw(picture, canvas))


def _draw(picture: Picture, canvas: Plain) -> None:
    layout = _layout(picture)
    draw_head(canvas, layout.title, layout.notes)
    x, y = layout.draw(picture, canvas)
    draw_legend(canvas, picture, x, y, layout.words)


def head_height(title: Sequence[str], notes: Sequence[str]) -> int:
    return 24 + 24 * len(title) + LINE * len(notes)


def draw_head(canvas: Plain, title: Sequence[str], notes: Sequence[str]) -> None:
    """The title and what there is to know, in lines."""
    for index, line in enumerate(title):
        canvas.text(EDGE, 28 + 24 * index, line, TITLE)
    for index, line in enumerate(notes):
        canvas.text(EDGE, 28 + 24 * len(title) + LINE * index, line, NOTE, FAINT)


def legend_words(picture: Picture, width: float) -> list[str]:
    """What the colours of a difference stand for, in lines of a picture of this width."""
    orange, blue = picture.sides
    line = f"{picture.meaning} · orange: {orange} · blue: {blue}"
    return wrapped(line, width - 2 * EDGE, NOTE) if picture.signed else []


def draw_legend(canvas: Plain, picture: Picture, x: float, y: float, words: Sequence[str]) -> None:
    canvas.tiles(np.arange(picture.signed, 256, dtype=np.uint8)[None], x, y, LEGEND_WIDTH, 12, picture.signed)
    top = f"{picture.top:.3g}"
    canvas.text(x, y + 24, f"−{top}" if picture.signed else "0", NOTE, FAINT)
    canvas.text(x + LEGEND_WIDTH, y + 24, top, NOTE, FAINT, "end")
    if picture.signed:
        canvas.text(x + LEGEND_WIDTH / 2, y + 24, "0", NOTE, FAINT, "middle")
        for index, line in enumerate(words):
            canvas.text(EDGE, y + 44 + LINE * index, line, NOTE, FAINT)
    else:
        canvas.text(x + LEGEND_WIDTH + 14, y + 6, picture.meaning, NOTE, FAINT)


@dataclass(frozen=True)
class HeatmapLayout:
    """Where things are in a labelled heatmap; PNG and SVG share it."""

    title: list[str]
    notes: list[str]
    labels: list[str]
    cell: int
    font_size: int
    margin: int  # left of the cells, for the labels; above them as much
    width: int
    legend: float  # where it begins, from the left
    words: list[str]  # of the legend

    @classmethod
    def of(cls, picture: Picture) -> "HeatmapLayout":
        labels = [shortened(label) for label in picture.labels]
        cell = max(5, min(44, ROOM // len(labels)))
        size = max(5, min(15, cell - 2))
        margin = int(WIDER * max(text_width(label, size) for label in labels)) + EDGE + 8
        width = max(margin + cell * len(labels) + EDGE, NARROWEST)
        legend = min(margin, width - EDGE - LEGEND_WIDTH - 160)
        words = legend_words(picture, width)
        head = head_lines(picture.caption, picture.note, width)
        return cls(*head, labels, cell, size, margin, width, legend, words)

    @property
    def side(self) -> int:
        return self.cell * len(self.labels)

    @property
    def top(self) -> int:
        return head_height(self.title, self.notes) + self.margin - EDGE

    @property
    def height(self) -> int:
        return self.top + self.side + 92 + LINE * max(0, len(self.words) - 1)

    def draw(self, picture: Picture, canvas: Plain) -> tuple[float, float]:
        """Where the legend begins."""
        canvas.tiles(picture.levels[0, 0], self.margin, self.top, self.side, self.side, picture.signed)
        if picture.signed:
            canvas.frame(self.margin, self.top, self.side, self.side)
        for index, label in enumerate(self.labels):
            middle = (index + 0.5) * self.cell
            canvas.text(self.margin - 8, self.top + middle, label, self.font_size, anchor="end")
            canvas.text(self.margin + middle, self.top - 6, label, self.font_size, upright=True)
        return self.legend, self.top + self.side + 20


@dataclass(frozen=True)
class GridLayout:
    """Where things are in a grid of tiles."""

    title: list[str]
    notes: list[str]
    side: float  # of a tile: a whole number of pixels a weight
    width: int
    height: int
    words: list[str]  # of the legend

    LEFT, GAP = 82, 6

    @classmethod
    def of(cls, picture: Picture) -> "GridLayout":
        layers, heads, units = picture.weights.shape[:3]
        side = math.ceil(TILE / units) * units / SCALE
        width = max(math.ceil(cls.LEFT + heads * (side + cls.GAP)) + EDGE - cls.GAP, NARROWEST)
        title, notes = head_lines(picture.caption, picture.note, width)
        words = legend_words(picture, width)
        height = head_height(title, notes) + 24 + layers * (side + cls.GAP) + 80 + LINE * max(0, len(words) - 1)
        return cls(title, notes, side, width, math.ceil(height), words)

    def corner(self, row: int, column: int) -> tuple[float, float]:
        step = self.side + self.GAP
        return self.LEFT + column * step, head_height(self.title, self.notes) + 24 + row * step

    def draw(self, picture: Picture, canvas: Plain) -> tuple[float, float]:
        """Where the legend begins."""
        for column, head in enumerate(picture.heads):
            x, y = self.corner(0, column)
            canvas.text(x + self.side / 2, y - 12, head_name(head), 11, anchor="middle")
        for row, layer in enumerate(picture.layers):
            x, y = self.corner(row, 0)
            canvas.text(x - 10, y + self.side / 2, f"layer {layer}", NOTE, anchor="end")
            for column in range(len(picture.heads)):
                x, y = self.corner(row, column)
                canvas.tiles(picture.levels[row, column], x, y, self.side, self.side, picture.signed)
                if picture.signed:
                    canvas.frame(x, y, self.side, self.side)
        return self.LEFT, self.height - 72 - LINE * max(0, len(self.words) - 1)


def _layout(picture: Picture) -> HeatmapLayout | GridLayout:
    return HeatmapLayout.of(picture) if picture.single else GridLayout.of(picture)


def head_lines(title: str, note: str, width: int) -> tuple[list[str], list[str]]:
    return wrapped(title, width - 2 * EDGE, TITLE), wrapped(note, width - 2 * EDGE, NOTE)
