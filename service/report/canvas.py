"""One way to draw, two ways to show: charts are drawn once, as SVG for the page and as pixels for the PNG.

A colour is named by its role; the page's style sheet and the palette below give it a value.
"""

import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Literal, Protocol

from PIL import Image, ImageColor, ImageDraw

from service.pictures.fonts import font, runs

Role = Literal["ink", "faint", "line", "paper", "panel", "bar", "second", "alert", "good", "pad"]
Anchor = Literal["start", "middle", "end"]
SCALE = 2  # pixels of the PNG to one unit
LIGHT: dict[Role, str] = {
    "ink": "#18202c", "faint": "#5f6b7a", "line": "#d9dee6", "paper": "#ffffff", "panel": "#f4f6f9",
    "bar": "#3b6fb6", "second": "#e0912f", "alert": "#c0392b", "good": "#2f8f5b", "pad": "#dfe4eb",
}  # fmt: skip
DARK: dict[Role, str] = {
    "ink": "#e7ebf1", "faint": "#9aa6b6", "line": "#353e4b", "paper": "#12161c", "panel": "#1b212a",
    "bar": "#6ea3ea", "second": "#f0ae57", "alert": "#f0776a", "good": "#5cc48d", "pad": "#2b333f",
}  # fmt: skip


class Canvas(Protocol):
    """What charts draw on, in units of a CSS pixel from the top left corner."""

    def box(
        self, x: float, y: float, width: float, height: float, role: Role, title: str = "", strength: float = 1.0
    ) -> None:
        """`strength`: 0 lets all that is beneath shine through, 1 nothing."""

    def dot(self, x: float, y: float, radius: float, role: Role, title: str = "", strength: float = 1.0) -> None: ...

    def line(
        self, points: Sequence[tuple[float, float]], role: Role, width: float = 1.0, dashed: bool = False
    ) -> None: ...

    def text(self, x: float, y: float, text: str, role: Role = "ink", size: int = 13, anchor: Anchor = "start") -> None:
        """`y` is the middle of the letters."""


class SvgCanvas:
    """Elements without style: classes alone, so that a strict Content-Security-Policy lets them through."""

    def __init__(self, width: int, height: int, label: str) -> None:
        self.width, self.height, self.label = width, height, label
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, role: Role, title: str = "", strength: float = 1.0
    ) -> None:
        size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        look = f'rx="2" class="f-{role}"{_opacity(strength)}'
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} {look}>{_tip(title)}</rect>')

    def dot(self, x: float, y: float, radius: float, role: Role, title: str = "", strength: float = 1.0) -> None:
        look = f'r="{radius:g}" class="f-{role}"{_opacity(strength)}'
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}>{_tip(title)}</circle>')

    def line(self, points: Sequence[tuple[float, float]], role: Role, width: float = 1.0, dashed: bool = False) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<polyline points="{path}" fill="none" class="s-{role}" stroke-width="{width}"{dashes}/>')

    def text(self, x: float, y: float, text: str, role: Role = "ink", size: int = 13, anchor: Anchor = "start") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" dominant-baseline="central" text-anchor="{anchor}"'
        self._parts.append(f'<text {place} font-size="{size}" class="f-{role}">{escape(text)}</text>')

    def render(self) -> str:
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.label)}">'
            f"{''.join(self._parts)}</svg>"
        )


def _tip(title: str) -> str:
    return f"<title>{escape(title)}</title>" if title else ""


def _opacity(strength: float) -> str:
    return "" if strength == 1.0 else f' fill-opacity="{strength:.2f}"'


class PixelCanvas:
    """The same on an image, at an offset, in the light palette; each run of a text in the font that has it."""

    def __init__(self, image: Image.Image, left: int, top: int) -> None:
        self._draw = ImageDraw.Draw(image, "RGBA")  # so that a strength blends with what is beneath
        self._left, self._top = left, top

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (x + self._left) * SCALE, (y + self._top) * SCALE

    def box(
        self, x: float, y: float, width: float, height: float, role: Role, title: str = "", strength: float = 1.0  # noqa: ARG002
    ) -> None:  # fmt: skip
        if width > 0 and height > 0:
            right, bottom = self._at(x + width, y + height)
            self._draw.rounded_rectangle((*self._at(x, y), right, bottom), 2 * SCALE, _ink(role, strength))

    def dot(self, x: float, y: float, radius: float, role: Role, title: str = "", strength: float = 1.0) -> None:  # noqa: ARG002
        self._draw.circle(self._at(x, y), radius * SCALE, _ink(role, strength))

    def line(self, points: Sequence[tuple[float, float]], role: Role, width: float = 1.0, dashed: bool = False) -> None:
        (x, y), (end_x, end_y) = points[0], points[-1]
        steps = max(1, int(max(abs(end_x - x), abs(end_y - y)) // 9)) if dashed and len(points) == 2 else 0
        pieces = [
            [(x + (end_x - x) * at / steps, y + (end_y - y) * at / steps) for at in (step, step + 0.55)]
            for step in range(steps)
        ] or [list(points)]
        for piece in pieces:
            self._draw.line([self._at(*point) for point in piece], LIGHT[role], max(1, round(width * SCALE)))

    def text(self, x: float, y: float, text: str, role: Role = "ink", size: int = 13, anchor: Anchor = "start") -> None:
        pieces = runs(text)
        widths = [piece.width(size * SCALE) for piece in pieces]
        left, middle = self._at(x, y)
        left -= sum(widths) * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        ascent, descent = font(size * SCALE).getmetrics()
        baseline = middle + (ascent - descent) / 2  # one for all fonts
        for piece, width in zip(pieces, widths, strict=True):
            letters, own, direction = piece.drawn(size * SCALE)
            self._draw.text((left, baseline), letters, LIGHT[role], own, anchor="ls", direction=direction)
            left += width


def _ink(role: Role, strength: float) -> tuple[int, ...]:
    return (*ImageColor.getrgb(LIGHT[role]), round(255 * strength))


def text_width(text: str, size: int) -> float:
    """About how wide a text is drawn; Chinese, Japanese and Korean characters are squares."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return size * (wide + 0.56 * (len(text) - wide))


def shorten(text: str, width: float, size: int) -> str:
    """The text, cut to this width with an ellipsis; line breaks become spaces."""
    text = " ".join(text.split()) or "␠"
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text + "…"
