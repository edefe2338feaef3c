"""A small SVG canvas for the pictures of the concept pages: boxes, arrows, grids, curves, in light and dark.

A picture has a ground of its own, and its colours follow the reader's system, so that it is readable on any page.
"""

from collections.abc import Sequence
from html import escape
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
STYLE = """
svg { --ground: #fcfcfa; --ink: #1f2430; --faint: #667085; --line: #98a2b3; --box: #eef1f6; --blue: #cfe0ff;
  --green: #cdeedd; --amber: #ffe6bf; --rose: #fbd5dc; --deep: #2f6fed; --hot: #c2410c }
@media (prefers-color-scheme: dark) { svg { --ground: #161a22; --ink: #e6e9ef; --faint: #9aa4b5; --line: #596477;
  --box: #232936; --blue: #1f3b70; --green: #1d4a37; --amber: #573f14; --rose: #5a2632; --deep: #7aa5ff;
  --hot: #fb923c } }
text { font-family: system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; fill: var(--ink) }
.mono { font-family: ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace }
.faint { fill: var(--faint) } .hot { fill: var(--hot) } .bold { font-weight: 600 }
"""


class Canvas:
    """Collects shapes, writes one SVG. All measures are pixels of the drawing."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._shapes: list[str] = []

    def text(self, x: float, y: float, words: str, size: int = 14, anchor: str = "middle", kind: str = "") -> None:
        """`kind`: classes of the style above. y is the middle of the line."""
        place = f'x="{x:g}" y="{y + size * 0.35:g}" font-size="{size}" text-anchor="{anchor}"'
        self._shapes.append(f'<text {place} class="{kind}">{escape(words)}</text>')

    def box(
        self, x: float, y: float, width: float, height: float, words: str = "", colour: str = "box", size: int = 14,
        kind: str = "", dashed: bool = False,
    ) -> None:  # fmt: skip
        """A rounded box with centred lines of words."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="var(--{colour})" '
            f'stroke="var(--line)"{dash}/>'
        )
        lines = words.split("\n") if words else []
        for index, line in enumerate(lines):
            offset = (index - (len(lines) - 1) / 2) * size * 1.35
            self.text(x + width / 2, y + height / 2 + offset, line, size, kind=kind)

    def arrow(self, *points: tuple[float, float], dashed: bool = False, head: bool = True) -> None:
        """A line through these points, with a head at the end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        end = ' marker-end="url(#head)"' if head else ""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._shapes.append(
            f'<polyline points="{path}" fill="none" stroke="var(--faint)" stroke-width="1.5"{end}{dash}/>'
        )

    def curve(self, points: Sequence[tuple[float, float]], colour: str = "deep") -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(f'<polyline points="{path}" fill="none" stroke="var(--{colour})" stroke-width="1.6"/>')

    def cell(self, x: float, y: float, size: float, share: float, words: str = "", height: float = 0) -> None:
        """A cell of a matrix, the more blue the nearer its share is to 1."""
        tall = height or size
        self._shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{size:g}" height="{tall:g}" fill="var(--deep)" '
            f'fill-opacity="{0.05 + 0.6 * share:.2f}" stroke="var(--line)"/>'
        )
        if words:
            self.text(x + size / 2, y + tall / 2, words, 13, kind="mono")

    def matrix(
        self, x: float, y: float, rows: Sequence[Sequence[float]], name: str, shade: bool = False, width: int = 52
    ) -> tuple[float, float]:
        """Numbers in cells, with a name above -> its right edge and its middle height."""
        tall = 32
        for row, values in enumerate(rows):
            for column, value in enumerate(values):
                self.cell(x + column * width, y + row * tall, width, value if shade else 0.0, f"{value:.2f}", tall)
        self.text(x + len(rows[0]) * width / 2, y - 14, name, 14, kind="bold")
        return x + len(rows[0]) * width, y + len(rows) * tall / 2

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" role="img"><title>{escape(self.title)}</title><style>{STYLE}</style>'
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L10 5L0 10z" fill="var(--faint)"/></marker></defs>'
            f'<rect width="{self.width}" height="{self.height}" rx="10" fill="var(--ground)"/>'
        )
        return "\n".join([head, *self._shapes, "</svg>"]) + "\n"
