"""SVG elements as strings, and the colours of the picture. Used by `svg.py` and `figure.py`."""

from html import escape

from model.diagram.text import clean, fit

INK, MUTED, LINE, MEMORY = "#18202c", "#566072", "#4a5565", "#b4530f"
PAPER, PANEL, BORDER = "#ffffff", "#f5f6f8", "#d5d9e0"
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
NAME, SMALL = 13.5, 11  # font sizes
COLORS = {  # fill and border, in the hues of the paper's figure
    "embedding": ("#fbdfe3", "#d98a97"),
    "attention": ("#ffe3c2", "#dd9a4c"),
    "cross_attention": ("#ffe3c2", "#dd9a4c"),
    "feed_forward": ("#cfeaf7", "#62a8c9"),
    "norm": ("#f6f3c4", "#bfb755"),
    "add_norm": ("#f6f3c4", "#bfb755"),
    "pool": ("#d5efd8", "#73b07d"),
    "linear": ("#e0e0f6", "#8f8fc9"),
    "other": ("#eceef1", "#9aa3b0"),
}


def number(value: float) -> str:
    """At most two decimals, no trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def tag(name: str, content: str = "", **attributes: str | float | None) -> str:
    """One element; `stroke_width=2` becomes stroke-width="2", None is left out. The content is markup already."""
    shown = "".join(
        f' {key.replace("_", "-")}="{escape(value) if isinstance(value, str) else number(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{shown}>{content}</{name}>" if content else f"<{name}{shown}/>"


def group(x: float, y: float, parts: list[str]) -> str:
    return tag("g", "\n".join(["", *parts, ""]), transform=f"translate({number(x)} {number(y)})")


def safe(text: str) -> str:
    """Text as XML content: nothing in it is markup."""
    return escape(clean(text, 1000))


def label(
    x: float, y: float, text: str, room: float, size: float = SMALL, bold: bool = False, fill: str = INK,
    anchor: str | None = None,
) -> str:  # fmt: skip
    """A line of text, shortened to the room it has; y is its baseline."""
    shown = safe(fit(clean(text), size, room, bold))
    weight = "600" if bold else None
    return tag("text", shown, x=x, y=y, font_size=size, font_weight=weight, fill=fill, text_anchor=anchor)


def line(points: str, color: str = LINE, dashed: bool = False) -> str:
    """A path that is not filled."""
    dash = "4 4" if dashed else None
    return tag("path", d=points, fill="none", stroke=color, stroke_width=1.6, stroke_dasharray=dash)


def arrow_head(x: float, y: float, toward: str, color: str = LINE) -> str:
    """A triangle whose tip is at x, y."""
    length, half = 7, 4
    steps = {
        "up": f"l{-half} {length}h{2 * half}z",
        "right": f"l{-length} {-half}v{2 * half}z",
        "left": f"l{length} {-half}v{2 * half}z",
    }
    return tag("path", d=f"M{number(x)} {number(y)}{steps[toward]}", fill=color)
