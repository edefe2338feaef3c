"""The middle of the picture: frames of layers, blocks, and the lines between them. Used by `svg.py`."""

from model.diagram.blocks import Block, Diagram, Edge
from model.diagram.layout import GAP, GUTTER, RADIUS, TEXT_LINE, Box, Frame, Layout, is_narrow
from model.diagram.paint import (
    BORDER,
    COLORS,
    INK,
    LINE,
    MEMORY,
    MUTED,
    NAME,
    PANEL,
    PAPER,
    SMALL,
    arrow_head,
    label,
    line,
    number,
    tag,
)  # fmt: skip
from model.diagram.text import axes_text, flops_text, parameters_text, shape_text, width

LEAVE = 10  # below the next block, where a residual arc leaves the trunk
SIDE = 24  # how far an arc runs beside its block
TURN = 8  # radius of a corner
INSIDE = 12  # from a block's border to its text


def figure(diagram: Diagram, layout: Layout) -> list[str]:
    """Everything of the columns, back to front."""
    blocks = {block.id: block for block in diagram.blocks}
    return [
        *(_frame(frame) for frame in layout.frames),
        *(_edge(edge, blocks, layout, diagram) for edge in diagram.edges),
        *(
            _block(block, layout.boxes[block.id], is_narrow(row))
            for section in diagram.sections
            for row in section.rows
            for block in row
        ),
    ]


def _frame(frame: Frame) -> str:
    """The box around a layer, and the bracket that says how many there are."""
    box = frame.box
    parts = [
        tag("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=12, fill=PANEL, stroke=BORDER),
        label(
            box.x + 14 if frame.mirrored else box.right - 14, box.y + 17, frame.section.name, 150, fill=MUTED,
            anchor=None if frame.mirrored else "end",
        ),
    ]  # fmt: skip
    if frame.section.repeat == 1:
        return "".join(parts)
    outward = 1 if frame.mirrored else -1
    x = (box.right if frame.mirrored else box.x) + 13 * outward
    back = -6 * outward
    parts.append(line(f"M{number(x + back)} {number(box.y)}h{-back}v{number(box.height)}h{back}", MUTED))
    times = f"× {frame.section.repeat}"
    parts.append(label(x + 30 * outward, box.middle + 6, times, 60, size=16, bold=True, anchor="middle"))
    return "".join(parts)


def _edge(edge: Edge, blocks: dict[str, Block], layout: Layout, diagram: Diagram) -> str:
    source, target = layout.boxes[edge.source], layout.boxes[edge.target]
    into_circle = blocks[edge.target].kind == "add"
    if edge.kind == "residual":
        below = next(one.target for one in diagram.edges if one.source == edge.source and one.kind == "flow")
        leave = layout.boxes[below].bottom + LEAVE
        return _arc(target, leave, into_circle, layout.mirrored[edge.target])
    if edge.kind == "memory":
        return _memory(source, target, layout, f"memory {axes_text(blocks[edge.source].output)}")
    return _flow(source, target, into_circle, edge.kind == "idle")


def _flow(source: Box, target: Box, into_circle: bool, idle: bool) -> str:
    """Straight up, or up and across when the target stands at another place."""
    x, end = source.center, target.bottom
    start = f"M{number(x)} {number(source.y)}"
    if abs(x - target.center) < 1:
        path, head = f"{start}V{number(end + 1)}", arrow_head(x, end, "up")
    elif into_circle:
        right = x < target.center
        side = target.center + (-RADIUS if right else RADIUS)
        turn = TURN if right else -TURN
        path = f"{start}V{number(target.middle + TURN)}q0 {-TURN} {turn} {-TURN}H{number(side)}"
        head = arrow_head(side, target.middle, "right" if right else "left")
    else:
        across, turn = end + GAP / 2, TURN if target.center > x else -TURN
        path = (
            f"{start}V{number(across + TURN)}q0 {-TURN} {turn} {-TURN}H{number(target.center - turn)}"
            f"q{turn} 0 {turn} {-TURN}V{number(end + 1)}"
        )
        head = arrow_head(target.center, end, "up")
    return line(path, MUTED if idle else LINE, dashed=idle) + ("" if idle else head)


def _arc(target: Box, leave: float, into_circle: bool, mirrored: bool) -> str:
    """From the trunk around the sub-layer to where its output is added."""
    outward = 1 if mirrored else -1
    edge = target.right if mirrored else target.x
    side = edge + outward * SIDE
    end = target.center + outward * RADIUS if into_circle else edge
    turn = TURN * outward
    path = (
        f"M{number(target.center)} {number(leave)}H{number(side - turn)}q{turn} 0 {turn} {-TURN}"
        f"V{number(target.middle + TURN)}q0 {-TURN} {-turn} {-TURN}H{number(end)}"
    )
    return line(path) + arrow_head(end, target.middle, "left" if mirrored else "right")


def _memory(source: Box, target: Box, layout: Layout, text: str) -> str:
    """The encoder's output: out of the top of its frame, through the gutter, into the side of cross-attention."""
    tops = [frame.box.y for frame in layout.frames if not frame.mirrored and frame.box.bottom > source.y]
    up = min([source.y, *tops]) - 18
    gutter = max(frame.box.right for frame in layout.frames if not frame.mirrored) + GUTTER / 2
    down = TURN if target.middle > up else -TURN
    path = (
        f"M{number(source.center)} {number(source.y)}V{number(up + TURN)}q0 {-TURN} {TURN} {-TURN}"
        f"H{number(gutter - TURN)}q{TURN} 0 {TURN} {down}V{number(target.middle - down)}"
        f"q0 {down} {TURN} {down}H{number(target.x - 1)}"
    )
    room = gutter - source.center - TURN
    caption = label(source.center + TURN + 4, up - 7, text, room, fill=MEMORY)
    return line(path, MEMORY) + arrow_head(target.x, target.middle, "right", MEMORY) + caption


def _block(block: Block, box: Box, narrow: bool) -> str:
    if block.kind == "add":
        return _circle(box)
    if block.kind in ("input", "output"):
        return _end(block, box)
    fill, stroke = COLORS[block.kind]
    shape = tag(
        "rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=8, fill=PAPER if block.idle else fill,
        stroke=stroke, stroke_width=1.2, stroke_dasharray="4 3" if block.idle else None,
    )  # fmt: skip
    if narrow:
        return shape + _narrow_text(block, box)
    return shape + (_one_line(block, box) if block.kind in ("norm", "add_norm") else _wide_text(block, box))


def _circle(box: Box) -> str:
    x, y, arm = box.center, box.middle, RADIUS / 2
    plus = f"M{number(x - arm)} {number(y)}h{number(2 * arm)}M{number(x)} {number(y - arm)}v{number(2 * arm)}"
    return tag("circle", cx=x, cy=y, r=RADIUS, fill=PAPER, stroke=LINE, stroke_width=1.6) + line(plus)


def _end(block: Block, box: Box) -> str:
    """What goes in and what comes out: words without a box."""
    room = box.width
    return label(box.center, box.y + 14, block.name, room, bold=True, size=12.5, anchor="middle") + label(
        box.center, box.y + 29, axes_text(block.output), room, fill=MUTED, anchor="middle"
    )


def _one_line(block: Block, box: Box) -> str:
    """A LayerNorm: name, shape and parameters side by side, and whether they are shared."""
    y = box.middle + 4.5
    shape = axes_text(block.output)
    numbers = ", ".join(filter(None, [parameters_text(block.parameters), block.detail]))
    room = (box.width - width(shape, SMALL)) / 2 - 1.5 * INSIDE
    return (
        label(box.x + INSIDE, y, block.name, room, NAME, bold=True)
        + label(box.center, y - 0.5, shape, box.width / 2, fill=MUTED, anchor="middle")
        + label(box.right - INSIDE, y - 0.5, numbers, room, anchor="end")
    )


def _wide_text(block: Block, box: Box) -> str:
    """Name, detail and shape on the left; parameters and FLOPs on the right."""
    numbers = [parameters_text(block.parameters), _flops(block)]
    lines = [block.name, *([block.detail] if block.detail else []), shape_text(block)]
    y = box.y + TEXT_LINE + 5
    room = box.width - 2 * INSIDE
    parts = []
    for index, text in enumerate(lines):
        taken = width(numbers[index], SMALL) + INSIDE if index < len(numbers) else 0
        size, fill = (NAME, INK) if index == 0 else (SMALL, INK if index == 1 and block.detail else MUTED)
        baseline = y + index * (TEXT_LINE + 1)
        parts.append(label(box.x + INSIDE, baseline, text, room - taken, size, bold=index == 0, fill=fill))
        if index < len(numbers):
            parts.append(label(box.right - INSIDE, baseline, numbers[index], room, anchor="end"))
    return "".join(parts)


def _narrow_text(block: Block, box: Box) -> str:
    """Everything centred, for blocks that share a row."""
    shape, room = shape_text(block), box.width - INSIDE
    if block.output and width(shape, SMALL) > room:
        shape = axes_text(block.output)
    lines = [block.name, block.detail, shape, parameters_text(block.parameters), _flops(block)]
    parts = []
    y = box.y + TEXT_LINE + 5
    for index, text in enumerate(text for text in lines if text):
        size, fill = (NAME, INK) if index == 0 else (SMALL, MUTED if text == shape else INK)
        baseline = y + index * TEXT_LINE
        parts.append(label(box.center, baseline, text, room, size, bold=index == 0, fill=fill, anchor="middle"))
    return "".join(parts)


def _flops(block: Block) -> str:
    return f"{flops_text(block.flops)} / {'text' if block.per_text else 'token'}" if block.flops else "0 FLOPs"
