"""The flow view: from the input embeddings through each layer, what every token takes from which, or what one token of
the last layer is made of. Called by the attention route.

A layer mixes half of a token with half of what its attention brings (Abnar and Zuidema 2020), heads averaged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.pictures.canvas import Canvas, Sketch, Strand
from service.pictures.colors import FAINT, INK, Color
from service.pictures.fonts import shortened, text_width
from service.pictures.heatmap import EDGE, NOTE, WIDER, draw_head, head_height, head_lines

ROW, SIZE = 22, 13
LEAST, LEAST_OF_ONE = 0.02, 0.005  # a smaller share is left out: of all tokens, of one
MOST_LINES = 1500
WIDEST = 11.0  # of a strand that carries all there is
KEPT: Color = (150, 158, 170)  # what a token keeps of itself
TAKEN: Color = (36, 84, 204)  # what it takes from others
SAMPLES = (0.05, 0.2, 0.5)  # of shares, in the legend
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FlowPicture:
    weights: npt.NDArray[np.float32]  # [L, U, U], heads averaged
    labels: Sequence[str]
    layers: Sequence[int]  # one after another
    title: str
    focus: int | None = None  # the unit of the last layer whose sources are shown; None: all units

    def mixing(self) -> Array:
        """[L, U, U]: the shares of which a row is made after a layer; rows sum to 1."""
        weights = self.weights.astype(np.float64)
        sums = weights.sum(-1, keepdims=True)
        own = np.eye(len(self.labels))
        taken = np.where(sums > 0, weights / np.where(sums > 0, sums, 1), own)
        return 0.5 * taken + 0.5 * own

    def flows(self) -> Array:
        """[L, U, U]: what goes from a unit before a layer (column) to a unit after it (row)."""
        mixing = self.mixing()
        if self.focus is None:
            return mixing
        reaching = np.eye(len(self.labels))[self.focus]
        flows = np.zeros_like(mixing)
        for place in range(len(mixing) - 1, -1, -1):
            flows[place] = reaching[:, None] * mixing[place]
            reaching = flows[place].sum(0)
        return flows

    def shares(self) -> Array | None:
        """[L + 1, U]: of each unit, at the input and after each layer, in the one that is in focus."""
        if self.focus is None:
            return None
        return np.concatenate([self.flows().sum(1), np.eye(len(self.labels))[[self.focus]]])


@dataclass(frozen=True)
class FlowLayout:
    title: list[str]
    notes: list[str]
    labels: list[str]
    flows: Array
    threshold: float
    left: float  # of the first column
    step: float  # from column to column
    width: int

    @classmethod
    def of(cls, picture: FlowPicture) -> "FlowLayout":
        labels = [shortened(label, 16) for label in picture.labels]
        words = WIDER * max(text_width(label, SIZE) for label in labels)
        percents = 0 if picture.focus is None else 42
        step = max(48.0, min(110.0, 900 / len(picture.layers)))
        left = EDGE + percents + words + 14
        width = max(620, round(left + step * len(picture.layers) + 14 + words + EDGE))
        flows = picture.flows()
        ordered = np.sort(flows.ravel())
        least = LEAST if picture.focus is None else LEAST_OF_ONE
        threshold = max(least, float(ordered[-MOST_LINES])) if len(ordered) > MOST_LINES else least
        return cls(*head_lines(picture.title, _reading(picture), width), labels, flows, threshold, left, step, width)

    @property
    def top(self) -> int:
        return head_height(self.title, self.notes) + 36

    @property
    def height(self) -> int:
        return self.top + ROW * len(self.labels) + 84

    def place(self, column: int, unit: int) -> tuple[float, float]:
        return self.left + column * self.step, self.top + ROW * (unit + 0.5)


def _reading(picture: FlowPicture) -> str:
    if picture.focus is None:
        return "from left to right: of what each token is made after a layer; heads averaged"
    shown = shortened(picture.labels[picture.focus], 16)
    return f'from left to right: of what "{shown}" is made after layer {picture.layers[-1]}; heads averaged'


def width_of(share: float) -> float:
    return max(0.6, WIDEST * share)


def _strands(layout: FlowLayout) -> list[Strand]:
    """The largest last, so that they lie above; they end short of the dots."""
    places = np.argwhere(layout.flows >= layout.threshold)
    strands = []
    for layer, row, column in places[np.argsort(layout.flows[tuple(places.T)], kind="stable")].tolist():
        share = float(layout.flows[layer, row, column])
        color = KEPT if row == column else TAKEN
        (x0, y0), (x1, y1) = layout.place(layer, column), layout.place(layer + 1, row)
        strands.append(Strand((x0 + 3, y0), (x1 - 3, y1), width_of(share), color, 0.3 + 0.45 * share))
    return strands


def flow_sketch(picture: FlowPicture) -> Sketch:
    layout = FlowLayout.of(picture)
    names = ["embeddings" if picture.layers[0] == 0 else f"layer {picture.layers[0] - 1}"]
    names += [f"layer {layer}" for layer in picture.layers]

    def draw(canvas: Canvas) -> None:
        draw_head(canvas, layout.title, layout.notes)
        canvas.strands(_strands(layout))
        for column, name in enumerate(names):
            x, _ = layout.place(column, 0)
            canvas.text(x, layout.top - 12, name, 11, FAINT, "end" if column == 0 else "middle")
        _draw_units(canvas, picture, layout, len(names))
        _draw_legend(canvas, layout)

    return Sketch(layout.width, layout.height, picture.title, draw)


def _draw_units(canvas: Canvas, picture: FlowPicture, layout: FlowLayout, columns: int) -> None:
    shares = picture.shares()
    for unit, label in enumerate(layout.labels):
        x, y = layout.place(0, unit)
        canvas.text(x - 12, y, label, SIZE, INK, "end")
        if shares is not None:
            canvas.text(EDGE + 34, y, f"{100 * shares[0, unit]:.1f} %", 11, FAINT, "end")
        x, _ = layout.place(columns - 1, unit)
        canvas.text(x + 14, y, label, SIZE, INK if picture.focus in (None, unit) else FAINT)
        for column in range(columns):
            share = 0.02 if shares is None else float(shares[column, unit])
            color = INK if share >= layout.threshold or shares is None else KEPT
            canvas.dot(*layout.place(column, unit), 2 + 4 * share**0.5, color)


def _draw_legend(canvas: Canvas, layout: FlowLayout) -> None:
    y, x = layout.height - 54, float(EDGE)
    strands = []
    for share in SAMPLES:
        strands.append(Strand((x, y), (x + 30, y), width_of(share), TAKEN, 0.3 + 0.45 * share))
        canvas.text(x + 36, y, f"{100 * share:.0f} %", NOTE, FAINT)
        x += 84
    canvas.strands(strands)
    canvas.text(x, y, "blue: taken from another token · grey: kept", NOTE, FAINT)
    least = f"{100 * layout.threshold:.2g} %"
    canvas.text(EDGE, y + 24, f"a layer keeps half and takes half by its attention; shares below {least} are left out",
                NOTE, FAINT)  # fmt: skip
