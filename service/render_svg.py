"""The same pictures of attention as SVG: text stays text, a tile is an embedded image of a pixel a weight.

The same weights give the same bytes. Called by the attention route, off the event loop.
"""

import base64
from html import escape

from PIL import Image

from service.render import (
    FAINT,
    INK,
    GridLayout,
    HeatmapLayout,
    Picture,
    color_table,
    head_name,
    png_bytes,
    tile,
)

FONTS = "'Vitrine CJK', 'Noto Sans CJK TC', 'Noto Sans CJK SC', 'PingFang TC', 'Microsoft JhengHei', sans-serif"


def attention_svg(picture: Picture) -> bytes:
    """One labelled heatmap, or a grid of layers x heads, as `render.attention_png`."""
    return (_heatmap(picture) if picture.single else _grid(picture)).encode()


def _heatmap(picture: Picture) -> str:
    layout = HeatmapLayout.of(picture)
    cell, margin, top = layout.cell, layout.margin, layout.top
    parts = [_image(tile(picture, 0, 0), margin, top, layout.side, layout.side)]
    for index, label in enumerate(layout.labels):
        middle = index * cell + cell / 2
        baseline = 0.36 * layout.font_size  # below the middle of a line
        parts.append(_text(label, margin - 8, top + middle + baseline, layout.font_size, anchor="end"))
        x, y = margin + middle + baseline, top - 6
        turn = f' transform="rotate(-90 {x:g} {y:g})"'
        parts.append(_text(label, x, y, layout.font_size, extra=turn))
    parts += _legend(picture, margin, top + layout.side + 24)
    return _document(picture, layout.width, layout.height, parts)


def _grid(picture: Picture) -> str:
    layout = GridLayout.of(picture)
    parts = []
    for column, head in enumerate(picture.heads):
        x, y = layout.corner(0, column)
        parts.append(_text(head_name(head), x + layout.side / 2, y - 12, 11, anchor="middle"))
    for row, layer in enumerate(picture.layers):
        x, y = layout.corner(row, 0)
        parts.append(_text(f"layer {layer}", x - 10, y + layout.side / 2 + 4, 12, anchor="end"))
        for column in range(len(picture.heads)):
            x, y = layout.corner(row, column)
            parts.append(_image(tile(picture, row, column), x, y, layout.side, layout.side))
    parts += _legend(picture, layout.LEFT, layout.height - 56)
    return _document(picture, layout.width, layout.height, parts)


def _legend(picture: Picture, x: int, y: int) -> list[str]:
    bar = Image.fromarray(color_table()[None, :, :])
    return [
        _image(bar, x, y, 256, 12),
        _text("0", x, y + 28, 12, FAINT),
        _text(f"{picture.top:.3g} ({picture.meaning})", x + 262, y + 10, 12, FAINT),
    ]


def _document(picture: Picture, width: int, height: int, parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" font-family="{FONTS}">'
    )
    title = f"<title>{escape(picture.caption)}</title>"
    paper = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    lines = [_text(picture.caption, 16, 29, 17), _text(picture.note, 16, 49, 12, FAINT)]
    return "\n".join([head, title, paper, *lines, *parts, "</svg>\n"])


def _text(
    text: str, x: float, y: float, size: int, color: tuple[int, int, int] = INK, anchor: str = "start", extra: str = ""
) -> str:
    fill = "#" + "".join(f"{channel:02x}" for channel in color)
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{extra}>'
        f"{escape(text)}</text>"
    )


def _image(image: Image.Image, x: int, y: int, width: int, height: int) -> str:
    data = base64.b64encode(png_bytes(image)).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'image-rendering="pixelated" href="data:image/png;base64,{data}"/>'
    )
