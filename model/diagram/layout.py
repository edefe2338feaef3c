"""Where each block of a diagram stands: the geometry of `svg.py`. Pixels, y downwards; input at the bottom."""

from dataclasses import dataclass

from model.diagram.blocks import Block, Column, Diagram, Section

BLOCK, BESIDE = 380, 12  # width of a row, space between blocks that share one
GAP = 26  # between rows: room for an arrow head
ARC, PAD = 42, 22  # inside the frame of a layer: the side of the residual arcs, and the other side
FRAME_TOP, FRAME_BOTTOM = 26, 30
BRACKET, GUTTER = 70, 78  # outside the frame: "x 12"; between encoder and decoder
RADIUS = 12  # of the circle that adds
TEXT_LINE = 16


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def center(self) -> float:
        return self.x + self.width / 2

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def right(self) -> float:
        return self.x + self.width


@dataclass(frozen=True)
class Frame:
    """Around the blocks of one layer."""

    section: Section
    box: Box
    mirrored: bool


@dataclass(frozen=True)
class Layout:
    width: float  # of the columns, without margins
    height: float
    boxes: dict[str, Box]  # by block id
    mirrored: dict[str, bool]  # by block id: arcs on the right
    frames: tuple[Frame, ...]


def is_narrow(row: tuple[Block, ...]) -> bool:
    return len(row) > 1


def lines_of(block: Block, narrow: bool) -> int:
    """Lines of text in a block: name, detail and shape; a narrow one has its two numbers below them."""
    return 2 + bool(block.detail) + (2 if narrow else 0)


def arrange(diagram: Diagram) -> Layout:
    """Columns side by side, their inputs on one line; the arcs of the last of two are on its right."""
    pair = len(diagram.columns) > 1
    boxes: dict[str, Box] = {}
    mirrored: dict[str, bool] = {}
    frames: list[Frame] = []
    left, top = 0.0, 0.0
    for number, column in enumerate(diagram.columns):
        flipped = number > 0
        x = left + (PAD if flipped else BRACKET + ARC)
        placed, around, highest = _column(column, x, flipped)
        boxes |= placed
        mirrored |= dict.fromkeys(placed, flipped)
        frames += around
        top = min(top, highest)
        left += BRACKET + ARC + BLOCK + PAD + GUTTER
    width = left - GUTTER if pair else 2 * (BRACKET + ARC) + BLOCK  # a single column stands in the middle
    shifted = {name: _down(box, -top) for name, box in boxes.items()}
    frames = [Frame(frame.section, _down(frame.box, -top), frame.mirrored) for frame in frames]
    return Layout(width, -top, shifted, mirrored, tuple(frames))


def _down(box: Box, by: float) -> Box:
    return Box(box.x, box.y + by, box.width, box.height)


def _column(column: Column, x: float, flipped: bool) -> tuple[dict[str, Box], list[Frame], float]:
    """Boxes and frames above y = 0, and how high they reach."""
    boxes: dict[str, Box] = {}
    frames: list[Frame] = []
    y = float(GAP)
    for section in column.sections:
        bottom = y - GAP
        y = bottom - FRAME_BOTTOM + GAP if section.is_layer else y
        for row in section.rows:
            height = _height(row)
            y -= GAP + height
            wide = (BLOCK - BESIDE * (len(row) - 1)) / len(row)
            for index, block in enumerate(row):
                boxes[block.id] = Box(x + index * (wide + BESIDE), y, wide, height)
        if section.is_layer:
            y -= FRAME_TOP
            side = PAD if flipped else ARC
            frames.append(Frame(section, Box(x - side, y, ARC + BLOCK + PAD, bottom - y), flipped))
    return boxes, frames, y


def _height(row: tuple[Block, ...]) -> float:
    narrow = is_narrow(row)
    kinds = {block.kind for block in row}
    if kinds == {"add"}:
        return 2 * RADIUS
    if kinds <= {"norm", "add_norm"}:
        return 34
    if kinds <= {"input", "output"}:
        return 34
    return TEXT_LINE * max(lines_of(block, narrow) for block in row) + (20 if narrow else 18)
