"""Attention as PNG in milliseconds: NumPy tiles and Pillow. Called by the attention route, off the event loop."""

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, FAINT = (24, 32, 44), (255, 255, 255), (120, 128, 140)
LABEL_CHARACTERS = 14  # a longer token is shown shortened
WIDER = 1.15  # than ours the font may be with which an SVG is shown
# Anchors of the viridis map (van der Walt and Smith 2015): even steps in lightness, safe for colour-blind eyes.
VIRIDIS = np.array(
    [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99],
     [170, 220, 50], [253, 231, 37]]
)  # fmt: skip


@lru_cache(maxsize=1)
def color_table() -> npt.NDArray[np.uint8]:
    """256 colours [256, 3], dark for 0 and bright for 1."""
    steps = np.linspace(0, len(VIRIDIS) - 1, 256)
    channels = [np.interp(steps, np.arange(len(VIRIDIS)), VIRIDIS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def font_path() -> Path:
    """Noto Sans CJK, which has Latin, Chinese, Japanese and Korean, in its package."""
    spec = importlib.util.find_spec("cvttf_NotoSansCJK_Regular")
    if spec is None or spec.origin is None:
        raise RuntimeError("the font package is missing; install cvttf-notosanscjk-regular")
    return Path(spec.origin).parent / "NotoSansCJKtc-Regular.otf"


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_path(), size)


@dataclass(frozen=True)
class Picture:
    """Attention to be drawn: one layer and head as a labelled heatmap, more as a grid of tiles."""

    weights: npt.NDArray[np.float32]  # [L, H, U, U]
    labels: Sequence[str]  # of the U rows and columns
    layers: Sequence[int]
    heads: Sequence[int | str]
    title: str
    note: str  # on what a row is
    meaning: str  # of a number
    top: float = 1.0  # the number that has the brightest colour

    @property
    def single(self) -> bool:
        return self.weights.shape[:2] == (1, 1)

    @property
    def caption(self) -> str:
        if self.single:
            return f"{self.title} · layer {self.layers[0]}, {head_name(self.heads[0])}"
        return f"{self.title} · {len(self.labels)} rows and columns a tile"

    def levels(self, layer: int, head: int) -> npt.NDArray[np.uint8]:
        """Places in the colour table [U, U]."""
        scaled = np.clip(self.weights[layer, head] * (255.0 / self.top), 0, 255)
        levels: npt.NDArray[np.uint8] = scaled.round().astype(np.uint8)
        return levels


def head_name(head: int | str) -> str:
    return "all heads" if head == "all" else f"head {head}"


def shortened(labels: Sequence[str]) -> list[str]:
    """Labels that fit their place; what has no shape of its own is shown by a sign."""
    signs = {" ": "␣", "\n": "¶", "\t": "→"}
    seen = ["".join(signs.get(c, c if c.isprintable() else "□") for c in label) for label in labels]
    return [label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + "…" for label in seen]


@dataclass(frozen=True)
class HeatmapLayout:
    """Where things are in a labelled heatmap, in pixels; PNG and SVG share it."""

    labels: list[str]
    cell: int
    font_size: int
    margin: int  # left of the cells, for the labels; above them as much
    width: int

    @classmethod
    def of(cls, picture: Picture) -> "HeatmapLayout":
        labels = shortened(picture.labels)
        cell = max(10, min(44, 1100 // len(labels)))
        size = max(9, min(15, cell - 2))
        margin = int(WIDER * max(font(size).getlength(label) for label in labels)) + 18
        longest = max(font(17).getlength(picture.caption), font(12).getlength(picture.note))
        return cls(labels, cell, size, margin, max(margin + cell * len(labels) + 24, int(longest) + 32, 520))

    @property
    def side(self) -> int:
        return self.cell * len(self.labels)

    @property
    def top(self) -> int:
        return 64 + self.margin

    @property
    def height(self) -> int:
        return self.top + self.side + 84


@dataclass(frozen=True)
class GridLayout:
    """Where things are in a grid of tiles."""

    side: int  # of a tile
    width: int
    height: int

    LEFT, TOP, GAP = 74, 92, 8

    @classmethod
    def of(cls, picture: Picture) -> "GridLayout":
        layers, heads, units = picture.weights.shape[:3]
        side = max(1, 96 // units) * units
        longest = max(font(17).getlength(picture.caption), font(12).getlength(picture.note))
        width = max(cls.LEFT + heads * (side + cls.GAP) + 12, int(longest) + 32, 520)
        return cls(side, width, cls.TOP + layers * (side + cls.GAP) + 72)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        return self.LEFT + column * (self.side + self.GAP), self.TOP + row * (self.side + self.GAP)


def attention_png(picture: Picture) -> bytes:
    image = _labelled_heatmap(picture) if picture.single else _grid(picture)
    return png_bytes(image)


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def tile(picture: Picture, layer: int, head: int, cell: int = 1) -> Image.Image:
    """One matrix, `cell` pixels a weight."""
    colors = color_table()[picture.levels(layer, head)]  # [U, U, 3]
    return Image.fromarray(np.repeat(np.repeat(colors, cell, axis=0), cell, axis=1))


def _blank(picture: Picture, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 12), picture.caption, INK, font(17))
    draw.text((16, 36), picture.note, FAINT, font(12))
    return image, draw


def _labelled_heatmap(picture: Picture) -> Image.Image:
    layout = HeatmapLayout.of(picture)
    cell, margin, top = layout.cell, layout.margin, layout.top
    text = font(layout.font_size)
    image, draw = _blank(picture, layout.width, layout.height)
    image.paste(tile(picture, 0, 0, cell), (margin, top))
    for index, label in enumerate(layout.labels):
        middle = index * cell + cell // 2
        draw.text((margin - 8, top + middle), label, INK, text, anchor="rm")
        upright = Image.new("RGB", (margin, cell), PAPER)
        ImageDraw.Draw(upright).text((6, cell // 2), label, INK, text, anchor="lm")
        image.paste(upright.rotate(90, expand=True), (margin + index * cell, top - margin))
    _legend(picture, image, draw, margin, top + layout.side + 24)
    return image


def _grid(picture: Picture) -> Image.Image:
    layout = GridLayout.of(picture)
    image, draw = _blank(picture, layout.width, layout.height)
    half = layout.side // 2
    for column, head in enumerate(picture.heads):
        x, y = layout.corner(0, column)
        draw.text((x + half, y - 10), head_name(head), INK, font(11), anchor="mb")
    for row, layer in enumerate(picture.layers):
        x, y = layout.corner(row, 0)
        draw.text((x - 10, y + half), f"layer {layer}", INK, font(12), anchor="rm")
        for column in range(len(picture.heads)):
            cell = layout.side // len(picture.labels)
            image.paste(tile(picture, row, column, cell), layout.corner(row, column))
    _legend(picture, image, draw, layout.LEFT, layout.height - 56)
    return image


def _legend(picture: Picture, image: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    bar = np.repeat(color_table()[None, :, :], 12, axis=0)
    image.paste(Image.fromarray(bar), (x, y))
    draw.text((x, y + 16), "0", FAINT, font(12))
    draw.text((x + 262, y - 3), f"{picture.top:.3g} ({picture.meaning})", FAINT, font(12))
