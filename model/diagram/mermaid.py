"""A diagram as Mermaid flowchart text, input at the bottom."""

from model.diagram.blocks import Block, Diagram, EdgeKind, Section
from model.diagram.text import clean, flops_text, parameters_text, shape_text

ARROWS: dict[EdgeKind, str] = {
    "flow": "-->", "residual": "-. residual .->", "memory": "== memory ==>", "idle": "-.-",
}  # fmt: skip
FILLS = {
    "embedding": "#fbdfe3", "attention": "#ffe3c2", "cross_attention": "#ffe3c2", "feed_forward": "#cfeaf7",
    "norm": "#f6f3c4", "add_norm": "#f6f3c4", "pool": "#d5efd8", "linear": "#e0e0f6", "other": "#eceef1",
}  # fmt: skip
FRAME = "fill:none,stroke:#8892a0"  # the page shows through, be it light or dark
_CODES = {ord(mark): f"#{ord(mark)};" for mark in '#&<>"`%'}


def to_mermaid(diagram: Diagram) -> str:
    """Each block once; a group of equal layers is a subgraph named with their number."""
    per = "source and target token" if len(diagram.columns) > 1 else "token"
    totals = (
        f"{diagram.parameters:,} parameters, {flops_text(diagram.flops_per_token)} per {per}, "
        f"context {diagram.context:,} tokens"
    )
    lines = ["flowchart BT", f'  subgraph model["{escape(f"{diagram.name} · {totals}")}"]', "    direction BT"]
    for number, column in enumerate(diagram.columns, 1):
        if len(diagram.columns) > 1:
            lines += [f'    subgraph column{number}["{column.name}"]', "      direction BT"]
        for index, section in enumerate(column.sections, 1):
            lines += _section(section, f"column{number}_part{index}")
        if len(diagram.columns) > 1:
            lines += ["    end", f"    style column{number} {FRAME}"]
    lines += ["  end", f"  style model {FRAME}"]
    lines += [f"  {edge.source} {ARROWS[edge.kind]} {edge.target}" for edge in diagram.edges]
    for kind, fill in FILLS.items():
        if ids := [block.id for block in diagram.blocks if block.kind == kind]:
            lines.append(f"  classDef {kind} fill:{fill},stroke:#5b6472,color:#18202c")
            lines.append(f"  class {','.join(ids)} {kind}")
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Inside the quotes of a label: Mermaid's number codes for every mark that its syntax or HTML knows."""
    return clean(text).translate(_CODES)


def _section(section: Section, name: str) -> list[str]:
    nodes = [_node(block) for row in section.rows for block in row]
    if not section.is_layer:
        return [f"    {node}" for node in nodes]
    title = escape(section.name if section.repeat == 1 else f"{section.name} (× {section.repeat})")
    opening = [f'    subgraph {name}["{title}"]', "      direction BT"]
    return [*opening, *(f"      {node}" for node in nodes), "    end", f"    style {name} {FRAME}"]


def _node(block: Block) -> str:
    if block.kind == "add":
        return f'{block.id}(("+"))'
    lines = [block.name, block.detail, shape_text(block)]
    if block.kind in ("input", "output"):
        return f'{block.id}(["{_label(lines)}"])'
    per = "text" if block.per_text else "token"
    lines += [parameters_text(block.parameters), f"{flops_text(block.flops)} per {per}" if block.flops else ""]
    return f'{block.id}["{_label(lines)}"]'


def _label(lines: list[str]) -> str:
    return "<br/>".join(escape(line) for line in lines if line)
