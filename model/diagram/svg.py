"""A diagram as one self-contained SVG in the manner of figure 1 of Vaswani et al. 2017, input at the bottom.

Presentation attributes only: no style element, script, font or link, so that it shows under the strictest
Content-Security-Policy. The same diagram gives the same bytes.
"""

from model.diagram.blocks import Diagram, Letter
from model.diagram.figure import figure
from model.diagram.layout import Layout, arrange
from model.diagram.paint import BORDER, FONT, INK, MUTED, PANEL, PAPER, SMALL, group, label, number, safe, tag
from model.diagram.text import flops_text, wrap

MARGIN, HEADER, TILE = 32, 182, 60
SPACE = 12  # between tiles
LEGEND_CELL, LEGEND_LINE, NOTE_LINE = 186, 24, 16


def to_svg(diagram: Diagram) -> str:
    """SVG text of some ten kilobytes."""
    layout = arrange(diagram)
    names = _column_names(diagram, layout)
    legend_top = HEADER + layout.height + (30 if names else 0) + 24
    legend, legend_height = _legend(diagram, layout.width)
    wide, high = layout.width + 2 * MARGIN, legend_top + legend_height + MARGIN
    parts = [
        f"<title>{safe(diagram.name)}</title>",
        f"<desc>{safe(_description(diagram))}</desc>",
        tag("rect", x=0.5, y=0.5, width=wide - 1, height=high - 1, rx=14, fill=PAPER, stroke=BORDER),
        group(MARGIN, 0, _header(diagram, layout.width)),
        group(MARGIN, HEADER, [*figure(diagram, layout), *names]),
        group(MARGIN, legend_top, legend),
    ]
    return tag(
        "svg", "\n".join(["", *parts, ""]), xmlns="http://www.w3.org/2000/svg", width=wide, height=high,
        viewBox=f"0 0 {number(wide)} {number(high)}", role="img", font_family=FONT, fill=INK,
    ) + "\n"  # fmt: skip


def _description(diagram: Diagram) -> str:
    return (
        f"{diagram.summary}; {diagram.parameters:,} parameters, {flops_text(diagram.flops_per_token)} "
        f"{_per(diagram)}, context length {diagram.context:,} tokens. From input to output: "
        + "; ".join(
            f"{', '.join(block.name for row in section.rows for block in row)} (× {section.repeat})"
            for section in diagram.sections
        )
    )


def _per(diagram: Diagram) -> str:
    return "per token" if len(diagram.columns) == 1 else "per source and target token"


def _header(diagram: Diagram, wide: float) -> list[str]:
    parts = [
        label(0, 56, diagram.name, wide, size=25, bold=True),
        label(0, 80, diagram.summary, wide, size=13, fill=MUTED),
    ]
    tiles = [
        (f"{diagram.parameters:,}", "parameters"),
        (flops_text(diagram.flops_per_token), f"{_per(diagram)}, forward"),
        (f"{diagram.context:,} tokens", "context length"),
    ]
    tile = (wide - SPACE * (len(tiles) - 1)) / len(tiles)
    for index, (value, caption) in enumerate(tiles):
        x = index * (tile + SPACE)
        parts.append(tag("rect", x=x, y=98, width=tile, height=TILE, rx=8, fill=PANEL, stroke=BORDER))
        parts.append(label(x + 14, 125, value, tile - 24, size=18, bold=True))
        parts.append(label(x + 14, 145, caption, tile - 24, fill=MUTED))
    return parts


def _column_names(diagram: Diagram, layout: Layout) -> list[str]:
    """Encoder and Decoder, below their inputs; a single column needs no name."""
    if len(diagram.columns) == 1:
        return []
    names = []
    for column in diagram.columns:
        row = column.sections[0].rows[0]
        first, last = layout.boxes[row[0].id], layout.boxes[row[-1].id]
        center = (first.x + last.right) / 2
        names.append(label(center, layout.height + 28, column.name, 300, size=16, bold=True, anchor="middle"))
    return names


def _legend(diagram: Diagram, wide: float) -> tuple[list[str], float]:
    """The letters in a grid, then what the numbers mean -> its elements and height."""
    across = max(1, int(wide // LEGEND_CELL))
    cell = wide / across
    parts = [tag("rect", x=0, y=0, width=wide, height=1, fill=BORDER)]
    for index, letter in enumerate(diagram.letters):
        parts += _letter(letter, index % across * cell, 18 + index // across * LEGEND_LINE, cell)
    y = 18 + -(-len(diagram.letters) // across) * LEGEND_LINE + 14
    for text in _notes(diagram):
        for words in wrap(text, SMALL, wide):
            parts.append(label(0, y, words, wide, fill=MUTED))
            y += NOTE_LINE
    return parts, y - NOTE_LINE


def _letter(letter: Letter, x: float, y: float, cell: float) -> list[str]:
    size = f" {letter.sizes[0]:,}" if len(letter.sizes) == 1 else ", varies" if letter.sizes else ""
    return [
        tag("rect", x=x, y=y, width=18, height=18, rx=4, fill=PANEL, stroke=BORDER),
        label(x + 9, y + 13, letter.letter, 18, bold=True, anchor="middle"),
        label(x + 25, y + 13, letter.meaning + size, cell - 30),
    ]


def _notes(diagram: Diagram) -> list[str]:
    notes = [
        "A multiply-add is 2 FLOPs; matrix products count, norms, activations, softmax and look-ups do not. "
        "Attention scores and mixing are stated at full context: 2 · 2 · D · S per layer and token."
    ]
    if any(section.repeat > 1 for section in diagram.sections):
        notes.append("Numbers within a bracket are those of one layer.")
    if len(diagram.columns) > 1:
        notes.append("FLOPs are those of one source token and one target token together, both texts at full length.")
    if diagram.flops_per_text:
        notes.append(f"The head adds {flops_text(diagram.flops_per_text)} once a text.")
    return [" ".join(notes)]
