"""One way to draw, two ways to show: a view is drawn on a canvas, in units of a CSS pixel from the top left corner,
and becomes pixels for the PNG or elements for the SVG. Called by every view of this package.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from typing import Literal, Protocol

import aggdraw
import numpy as np
from PIL import Image, ImageDraw

from service.pictures.colors import INK, LINE, PAPER, Color, Levels, color_table, hexadecimal
from service.pictures.embedded import font_faces
from service.pictures.fonts import FAMILIES, SCALE, drawable, runs, text_width

Anchor = Literal["start", "middle", "end"]
BASELINE = 0.36  # of a text's size, below its middle


@dataclass(frozen=True)
class Strand:
    """A curve that leaves its left end and reaches its right end level."""

    left: tuple[float, float]
    right: tuple[float, float]
    width: float
    color: Color
    opacity: float


class Plain(Protocol):
    """What a heatmap needs."""

    def tiles(self, levels: Levels, x: float, y: float, width: float, height: float, signed: bool = False) -> None:
        """levels: places in a colour table [rows, columns], each a rectangle."""

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        """A faint line around what is white at its edge."""

    def text(
        self, x: float, y: float, text: str, size: int, color: Color = INK, anchor: Anchor = "start",
        upright: bool = False, fit: float | None = None,
    ) -> None:  # fmt: skip
        """`y` is the middle of the letters; upright: read from below, and then x is. fit: the width it takes whatever
        the font of who looks at it."""


class Canvas(Plain, Protocol):
    def box(
        self, x: float, y: float, width: float, height: float, fill: Color, radius: float = 0, edge: Color | None = None
    ) -> None: ...

    def dot(self, x: float, y: float, radius: float, fill: Color, opacity: float = 1.0) -> None: ...

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: float = 1.0) -> None: ...

    def strands(self, strands: Sequence[Strand]) -> None:
        """In this order, each over those before it."""


@dataclass(frozen=True)
class Sketch:
    """A picture that is still to be shown one way or the other."""

    width: int
    height: int
    title: str
    draw: Callable[[Canvas], None]

    def png(self) -> bytes:
        return png_bytes(self.image())

    def image(self) -> Image.Image:
        canvas = PixelCanvas(self.width, self.height)
        self.draw(canvas)
        return canvas.image

    def svg(self) -> bytes:
        canvas = SvgCanvas(self.width, self.height, self.title)
        self.draw(canvas)
        return canvas.document()


def png_bytes(image: Image.Image, level: int = 3) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


class PixelCanvas:
    """In full colour."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
        self._pen = ImageDraw.Draw(self.image, "RGBA")

    def text(
        self, x: float, y: float, text: str, size: int, color: Color = INK, anchor: Anchor = "start",
        upright: bool = False, fit: float | None = None,  # noqa: ARG002  # the width is that of our own fonts
    ) -> None:  # fmt: skip
        self._stamp(*_written(x, y, text, size, anchor, upright), color)

    def _stamp(self, mask: Image.Image, x: int, y: int, color: Color) -> None:
        self.image.paste(color, (x, y), mask)

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        left, top, right, bottom = (round(value * SCALE) for value in (x, y, x + width, y + height))
        self._pen.rectangle((left - 1, top - 1, right, bottom), outline=LINE)

    def box(
        self, x: float, y: float, width: float, height: float, fill: Color, radius: float = 0, edge: Color | None = None
    ) -> None:
        left, top, right, bottom = (round(value * SCALE) for value in (x, y, x + width, y + height))
        self._pen.rounded_rectangle((left, top, right - 1, bottom - 1), radius * SCALE, fill, edge, SCALE // 2)

    def dot(self, x: float, y: float, radius: float, fill: Color, opacity: float = 1.0) -> None:
        """Smooth: drawn four times as large, then reduced."""
        side = int(2 * radius * SCALE) + 4
        left, top = int(x * SCALE - side / 2), int(y * SCALE - side / 2)
        mask = Image.new("L", (4 * side, 4 * side))
        place = ((x * SCALE - left) * 4, (y * SCALE - top) * 4)
        ImageDraw.Draw(mask).circle(place, 4 * radius * SCALE, round(255 * opacity))
        self.image.paste(fill, (left, top), mask.reduce(4))

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: float = 1.0) -> None:
        places = [(x * SCALE, y * SCALE) for x, y in points]
        self._pen.line(places, color, max(1, round(width * SCALE)), "curve")

    def strands(self, strands: Sequence[Strand]) -> None:
        """By Anti-Grain Geometry: smooth, and a thousand in some tens of milliseconds."""
        pen_of = cache(lambda color, width, alpha: aggdraw.Pen(color, width * SCALE, alpha))
        drawing = aggdraw.Draw(self.image)
        for strand in strands:
            (x0, y0), (x1, y1) = ((x * SCALE, y * SCALE) for x, y in (strand.left, strand.right))
            path, middle = aggdraw.Path(), (x0 + x1) / 2
            path.moveto(x0, y0)
            path.curveto(middle, y0, middle, y1, x1, y1)
            drawing.path(path, pen_of(strand.color, strand.width, round(255 * strand.opacity)))
        drawing.flush()

    def tiles(self, levels: Levels, x: float, y: float, width: float, height: float, signed: bool = False) -> None:
        size = (round(width * SCALE), round(height * SCALE))
        whole = Image.fromarray(color_table(signed)[levels]).resize(size, Image.Resampling.NEAREST)
        self.image.paste(whole, (round(x * SCALE), round(y * SCALE)))


class IndexedCanvas:
    """A byte a pixel, for pictures that must be there in milliseconds: greys from ink to paper, then one colour table.

    A text is drawn in a grey level, and its smooth edges are the levels between.
    """

    GREYS = 64

    def __init__(self, width: int, height: int, signed: bool) -> None:
        colors = 256 - self.GREYS
        places = np.round(np.arange(colors) * (255 / (colors - 1))).astype(int)
        shares = np.linspace(0, 1, self.GREYS)[:, None]
        greys = np.round((1 - shares) * np.array(INK) + shares * np.array(PAPER)).astype(np.uint8)
        self._levels = (self.GREYS + np.round(np.arange(256) * ((colors - 1) / 255))).astype(np.uint8)
        self._palette = np.concatenate([greys, color_table(signed)[places]]).tobytes()
        self._pixels = np.full((height * SCALE, width * SCALE), self.GREYS - 1, np.uint8)

    @property
    def image(self) -> Image.Image:
        image = Image.fromarray(self._pixels)
        image.putpalette(self._palette)
        return image

    def _ink(self, color: Color) -> int:
        return round((self.GREYS - 1) * (sum(color) - sum(INK)) / (sum(PAPER) - sum(INK)))

    def text(
        self, x: float, y: float, text: str, size: int, color: Color = INK, anchor: Anchor = "start",
        upright: bool = False, fit: float | None = None,  # noqa: ARG002  # the width is that of our own fonts
    ) -> None:  # fmt: skip
        self._stamp(*_written(x, y, text, size, anchor, upright), color)

    def _stamp(self, mask: Image.Image, x: int, y: int, color: Color) -> None:
        """On paper: the more ink, the darker."""
        top, left = max(0, -y), max(0, -x)
        place = (slice(y + top, y + mask.height), slice(x + left, x + mask.width))
        high, wide = self._pixels[place].shape
        shares = np.asarray(mask)[top : top + high, left : left + wide].astype(np.int32)
        paper = self.GREYS - 1
        grey = paper - (shares * (paper - self._ink(color)) + 127) // 255
        self._pixels[place] = np.where(shares > 0, grey, self._pixels[place])

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        left, top, right, bottom = (round(value * SCALE) for value in (x, y, x + width, y + height))
        for row in (top - 1, bottom):
            self._pixels[row, left - 1 : right + 1] = self._ink(LINE)
        for column in (left - 1, right):
            self._pixels[top - 1 : bottom + 1, column] = self._ink(LINE)

    def tiles(self, levels: Levels, x: float, y: float, width: float, height: float, signed: bool = False) -> None:  # noqa: ARG002
        down, across = round(height * SCALE) // levels.shape[0], round(width * SCALE) // levels.shape[1]
        pixels = np.repeat(np.repeat(self._levels[levels], down, axis=0), across, axis=1)
        left, top = round(x * SCALE), round(y * SCALE)
        self._pixels[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels


def _written(x: float, y: float, text: str, size: int, anchor: Anchor, upright: bool) -> tuple[Image.Image, int, int]:
    """How much ink a text puts where: a mask, and the pixel of its top left corner."""
    width, mask = text_width(text, size) * SCALE, letters(text, size * SCALE)
    shift = {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    if not upright:
        return mask, round(x * SCALE - shift) - PAD, round(y * SCALE) - mask.height // 2
    mask = mask.transpose(Image.Transpose.ROTATE_90)
    return mask, round(x * SCALE) - mask.width // 2, round(y * SCALE + shift) - mask.height + PAD


PAD = 4  # pixels beside the letters, which may reach out of their width


@lru_cache(maxsize=2048)
def letters(text: str, pixels: int) -> Image.Image:
    """How much ink each pixel of a text takes; names of heads and layers come again in every picture."""
    shown = runs(text)
    mask = Image.new("L", (int(sum(run.width(pixels) for run in shown)) + 2 * PAD + 1, 3 * pixels))
    pen, x = ImageDraw.Draw(mask), float(PAD)
    for run in shown:
        words, own, direction = run.drawn(pixels)
        pen.text((x, round((1.5 + BASELINE) * pixels)), words, 255, own, anchor="ls", direction=direction)
        x += run.width(pixels)
    middle = mask.height // 2
    _, top, _, bottom = mask.getbbox() or (0, middle, 0, middle)
    half = max(middle - top, bottom - middle, 1)
    return mask.crop((0, middle - half, mask.width, middle + half))


class SvgCanvas:
    """Elements with attributes alone; text stays text, and no script or reference to elsewhere."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []
        self._texts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, fill: Color, radius: float = 0, edge: Color | None = None
    ) -> None:
        look = f' rx="{radius:g}"' if radius else ""
        look += f' stroke="{hexadecimal(edge)}"' if edge else ""
        size = f'width="{width:.2f}" height="{height:.2f}"'
        self._parts.append(f'<rect x="{x:.2f}" y="{y:.2f}" {size} fill="{hexadecimal(fill)}"{look}/>')

    def dot(self, x: float, y: float, radius: float, fill: Color, opacity: float = 1.0) -> None:
        look = f'fill="{hexadecimal(fill)}"' + (f' fill-opacity="{opacity:.3g}"' if opacity < 1 else "")
        self._parts.append(f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:g}" {look}/>')

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: float = 1.0) -> None:
        path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
        look = f'stroke="{hexadecimal(color)}" stroke-width="{width:g}"'
        self._parts.append(f'<polyline points="{path}" fill="none" {look}/>')

    def strands(self, strands: Sequence[Strand]) -> None:
        self._parts.append('<g fill="none">')
        for strand in strands:
            (x0, y0), (x1, y1), middle = strand.left, strand.right, (strand.left[0] + strand.right[0]) / 2
            path = f"M{x0:g} {y0:.2f}C{middle:g} {y0:.2f} {middle:g} {y1:.2f} {x1:g} {y1:.2f}"
            look = f'stroke="{hexadecimal(strand.color)}" stroke-width="{strand.width:.3g}"'
            self._parts.append(f'<path d="{path}" {look} stroke-opacity="{strand.opacity:.3g}"/>')
        self._parts.append("</g>")

    def tiles(self, levels: Levels, x: float, y: float, width: float, height: float, signed: bool = False) -> None:
        small = Image.fromarray(levels)
        small.putpalette(color_table(signed).tobytes())
        data = base64.b64encode(png_bytes(small)).decode()
        self._parts.append(
            f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
            f'image-rendering="pixelated" href="data:image/png;base64,{data}"/>'
        )

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        size = f'width="{width + 0.5:g}" height="{height + 0.5:g}"'
        look = f'fill="none" stroke="{hexadecimal(LINE)}" stroke-width="0.5"'
        self._parts.append(f'<rect x="{x - 0.25:g}" y="{y - 0.25:g}" {size} {look}/>')

    def text(
        self, x: float, y: float, text: str, size: int, color: Color = INK, anchor: Anchor = "start",
        upright: bool = False, fit: float | None = None,
    ) -> None:  # fmt: skip
        self._texts.append(drawable(text))
        down, across = (0.0, BASELINE * size) if upright else (BASELINE * size, 0.0)
        place = f'x="{x + across:.2f}" y="{y + down:.2f}"'
        look = f'font-size="{size}" fill="{hexadecimal(color)}" text-anchor="{anchor}"'
        look += f' textLength="{fit:.2f}" lengthAdjust="spacingAndGlyphs"' if fit else ""
        look += f' transform="rotate(-90 {x + across:.2f} {y:.2f})"' if upright else ""
        self._parts.append(f'<text {place} {look} xml:space="preserve">{escape(drawable(text))}</text>')

    def document(self) -> bytes:
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FAMILIES}">'
        title = f"<title>{escape(drawable(self.title))}</title>"
        paper = f'<rect width="{self.width}" height="{self.height}" fill="{hexadecimal(PAPER)}"/>'
        faces = font_faces(self._texts)
        style = [f"<style>{faces}</style>"] if faces else []
        return "\n".join([head, title, *style, paper, *self._parts, "</svg>\n"]).encode()
