"""What all charts have in common. Used by `data/charts.py` and `evaluation/charts.py`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from service.report.canvas import Canvas, Role, text_width

WIDTH = 760  # of every chart
BAR_TOP = 28  # of the tallest bar of a histogram; what marks a place is named above it


@dataclass(frozen=True)
class Chart:
    """One chart: what it answers, how tall it is, how it is drawn."""

    key: str
    title: str
    hint: str  # how to read it, for a beginner
    height: int
    draw: Callable[[Canvas], None]


def histogram(canvas: Canvas, counts: Sequence[int], left: float, base: float, room: float, noun: str = "rows") -> None:
    """Bars of equal width with a scale of counts at the left."""
    largest = max(counts)
    step = room / len(counts)
    for share in (0.5, 1.0) if largest > 1 else (1.0,):
        y = base - share * (base - BAR_TOP)
        canvas.line([(left, y), (left + room, y)], "line")
        canvas.text(left - 8, y, compact(round(share * largest)), "faint", 12, "end")
    for index, count in enumerate(counts):
        height = max(1.5, count / largest * (base - BAR_TOP))
        if count:
            canvas.box(left + index * step + 0.8, base - height, step - 1.6, height, "bar", f"{count:,} {noun}")
    canvas.line([(left, base), (left + room, base)], "faint")


def legend(canvas: Canvas, x: float, y: float, entries: Iterable[tuple[Role, str]]) -> None:
    """Squares with their names, from left to right."""
    for role, name in entries:
        canvas.box(x, y - 6, 11, 11, role)
        canvas.text(x + 17, y, name, "faint", 12)
        x += text_width(name, 12) + 40


def compact(number: int) -> str:
    """1,057; 12.3 k; 1.2 M."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1_000:.1f} k" if number < 1_000_000 else f"{number / 1_000_000:.1f} M"
