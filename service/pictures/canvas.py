"""One way to draw, two ways to show: a view is drawn on a canvas, in units of a CSS pixel from the top left corner,
and becomes pixels for the PNG or elements for the SVG. Called by every view of this package.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from service.pictures.colors import INK, PAPER, Color, hexadecimal
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


class Canvas(Protocol):
    def box(
        self, x: float, y: float, width: float, height: float, fill: Color, radius: float = 0, edge: Color | None = None
    ) -> None: ...

    def dot(self, x: float, y: float, radius: float, fill: Color, opacity: float = 1.0) -> None: ...

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: float = 1.0) -> None: ...

    def strands(self, strands: Sequence[Strand]) -> None:
        """In this order, each over those before it."""

    def tiles(self, colors: npt.NDArray[np.uint8], x: float, y: float, width: float, height: float) -> None:
        """colors: [rows, columns, 3], each a rectangle."""

    def text(
        self, x: float, y: float, text: str, size: int, color: Color = INK, anchor: Anchor = "start",
        upright: bool = False, fit: float | None = None,
    ) -> None:  # fmt: skip
        """`y` is the middle of the letters; upright: read from below, and then x is. fit: the width it takes whatever
        the font of who looks at it."""


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
    """On an image of twice as many pixels, so that it is sharp on a dense screen and in a large view."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image, "RGBA")

    def box(
        self, x: float, y: float, width: float, height: float, fill: Color, radius: float = 0, edge: Color | None = None
    ) -> None:
        left, top, right, bottom = (round(value * SCALE) for value in (x, y, x + width, y + height))
        self._draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius * SCALE, fill, edge, SCALE // 2)

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
        self._draw.line(places, color, max(1, round(width * SCALE)), "curve")

    def strands(self, strands: Sequence[Strand]) -> None:
        pixels = np.array(self.image, dtype=np.float32)
        for strand in strands:
            _blend(pixels, strand)
        self.image.paste(Image.fromarray(pixels.round().astype(np.uint8)))

    def tiles(self, colors: npt.NDArray[np.uint8], x: float, y: float, width: float, height: float) -> None:
        size = (round(width * SCALE), round(height * SCALE))
        whole = Image.fromarray(colors).resize(size, Image.Resampling.NEAREST)
        self.image.paste(whole, (round(x * SCALE), round(y * SCALE)))

    def text(
        self, x: float, y: float, text: str, size: int, color: Color = INK, anchor: Anchor = "start",
        upright: bool = False, fit: float | None = None,  # noqa: ARG002  # the width is that of our own fonts
    ) -> None:  # fmt: skip
        pixels, width = size * SCALE, text_width(text, size) * SCALE
        shift = {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        if not upright:
            _write(self._draw, x * SCALE - shift, (y + BASELINE * size) * SCALE, text, pixels, color)
            return
        strip = Image.new("L", (int(width) + 4, 2 * pixels))
        _write(ImageDraw.Draw(strip), 2, (1 + BASELINE) * pixels, text, pixels, 255)
        turned = strip.rotate(90, expand=True)
        place = (round(x * SCALE) - pixels, round(y * SCALE + shift) - turned.height + 2)
        self.image.paste(color, place, turned)


def _write(draw: ImageDraw.ImageDraw, x: float, baseline: float, text: str, size: int, color: Color | int) -> None:
    for run in runs(text):
        shown, own, direction = run.drawn(size)
        draw.text((x, round(baseline)), shown, color, own, anchor="ls", direction=direction)
        x += run.width(size)


def _blend(pixels: npt.NDArray[np.float32], strand: Strand) -> None:
    """Exact coverage, column by column: a strand has one height at each place between its ends."""
    (x0, y0), (x1, y1) = ((x * SCALE, y * SCALE) for x, y in (strand.left, strand.right))
    columns = np.arange(max(0, round(x0)), min(pixels.shape[1], round(x1)))
    steps = np.linspace(0.0, 1.0, 65)
    across = 1.5 * steps * (1 - steps) + steps**3  # the cubic Bezier curve whose handles are level and half as long
    heights = steps**2 * (3 - 2 * steps)
    middle = np.interp((columns + 0.5 - x0) / (x1 - x0), across, heights) * (y1 - y0) + y0
    slope = np.gradient(middle) if len(middle) > 1 else np.zeros(1)
    half = strand.width * SCALE / 2 * np.sqrt(1 + slope**2)
    tall = int(np.ceil(2 * half.max())) + 2
    first = np.clip(np.floor(middle - half).astype(int), 0, pixels.shape[0] - tall)
    rows = first[:, None] + np.arange(tall)
    low, high = (middle - half)[:, None], (middle + half)[:, None]
    cover = np.clip(np.minimum(rows + 1, high) - np.maximum(rows, low), 0, 1) * strand.opacity
    beneath = pixels[rows, columns[:, None]]
    pixels[rows, columns[:, None]] += cover[..., None].astype(np.float32) * (
        np.array(strand.color, np.float32) - beneath
    )


class SvgCanvas:
    """Elements with attributes alone; text stays text, and no script or reference to elsewhere."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

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

    def tiles(self, colors: npt.NDArray[np.uint8], x: float, y: float, width: float, height: float) -> None:
        data = base64.b64encode(png_bytes(Image.fromarray(colors))).decode()
        self._parts.append(
            f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
            f'image-rendering="pixelated" href="data:image/png;base64,{data}"/>'
        )

    def text(
        self, x: float, y: float, text: str, size: int, color: Color = INK, anchor: Anchor = "start",
        upright: bool = False, fit: float | None = None,
    ) -> None:  # fmt: skip
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
        return "\n".join([head, title, paper, *self._parts, "</svg>\n"]).encode()
