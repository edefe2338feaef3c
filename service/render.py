"""Attention as PNG in milliseconds: NumPy tiles and Pillow. Called by the attention route, off the event loop."""

import importlib.util
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

INK, PAPER, FAINT = (24, 32, 44), (255, 255, 255), (120, 128, 140)
LABEL_CHARACTERS = 14  # a longer token is shown shortened
# Anchors of the viridis map (van der Walt and Smith 2015): even steps in lightness, safe for colour-blind eyes.
VIRIDIS = np.array(
    [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99],
     [170, 220, 50], [253, 231, 37]]
)  # fmt: skip


@lru_cache(maxsize=1)
def color_table() -> npt.NDArray[np.uint8]:
    """256 colours [256, 3], dark for 0 and bright for 1."""
    steps = np.linspace(0, len(VIRIDIS) - 1, 256)
    channels = [np.interp(steps, np.arange(len(VIRIDIS)), VIRIDIS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def font_path() -> Path:
    """Noto Sans CJK, which has Latin, Chinese, Japanese and Korean, in its package."""
    spec = importlib.util.find_spec("cvttf_NotoSansCJK_Regular")
    if spec is None or spec.origin is None:
        raise RuntimeError("the font package is missing; install cvttf-notosanscjk-regular")
    return Path(spec.origin).parent / "NotoSansCJKtc-Regular.otf"


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_path(), size)


def attention_png(
    weights: npt.NDArray[np.float32], tokens: Sequence[str], layers: Sequence[int], heads: Sequence[int], title: str
) -> bytes:
    """weights [L, H, T, T] with rows summing to 1 -> a PNG: one labelled heatmap, or a grid of layers x heads."""
    if weights.shape[0] == weights.shape[1] == 1:
        caption = f"{title} · layer {layers[0]}, head {heads[0]}"
        image = _labelled_heatmap(weights[0, 0], tokens, caption)
    else:
        image = _grid(weights, layers, heads, f"{title} · {len(tokens)} tokens")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _tile(weights: npt.NDArray[np.float32], cell: int) -> Image.Image:
    levels = np.clip(weights * 255.0, 0, 255).round().astype(np.uint8)
    colors = color_table()[levels]  # [T, T, 3]
    return Image.fromarray(np.repeat(np.repeat(colors, cell, axis=0), cell, axis=1))


def _labelled_heatmap(weights: npt.NDArray[np.float32], tokens: Sequence[str], caption: str) -> Image.Image:
    cell = max(10, min(44, 1100 // len(tokens)))
    text = font(max(9, min(15, cell - 2)))
    labels = [token if len(token) <= LABEL_CHARACTERS else token[: LABEL_CHARACTERS - 1] + "…" for token in tokens]
    margin = int(max(text.getlength(label) for label in labels)) + 18
    side = cell * len(tokens)
    width = max(margin + side + 24, 520)
    top = 64 + margin
    image = Image.new("RGB", (width, top + side + 84), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 12), caption, INK, font(17))
    draw.text(
        (16, 36), "row: the token that looks · column: the token it looks at · each row sums to 1", FAINT, font(12)
    )
    image.paste(_tile(weights, cell), (margin, top))
    for index, label in enumerate(labels):
        middle = index * cell + cell // 2
        draw.text((margin - 8, top + middle), label, INK, text, anchor="rm")
        upright = Image.new("RGB", (margin, cell), PAPER)
        ImageDraw.Draw(upright).text((6, cell // 2), label, INK, text, anchor="lm")
        image.paste(upright.rotate(90, expand=True), (margin + index * cell, top - margin))
    _legend(image, draw, margin, top + side + 24)
    return image


def _grid(weights: npt.NDArray[np.float32], layers: Sequence[int], heads: Sequence[int], title: str) -> Image.Image:
    cell = max(1, 96 // weights.shape[-1])
    side = cell * weights.shape[-1]
    gap, left, top = 8, 74, 92
    width = max(left + len(heads) * (side + gap) + 12, 520)
    image = Image.new("RGB", (width, top + len(layers) * (side + gap) + 72), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((16, 12), title, INK, font(17))
    draw.text((16, 36), "one tile a head · row: looks, column: is looked at", FAINT, font(12))
    for column, head in enumerate(heads):
        draw.text((left + column * (side + gap) + side // 2, top - 10), f"head {head}", INK, font(11), anchor="mb")
    for row, layer in enumerate(layers):
        y = top + row * (side + gap)
        draw.text((left - 10, y + side // 2), f"layer {layer}", INK, font(12), anchor="rm")
        for column in range(len(heads)):
            image.paste(_tile(weights[row, column], cell), (left + column * (side + gap), y))
    _legend(image, draw, left, top + len(layers) * (side + gap) + 16)
    return image


def _legend(image: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    bar = np.repeat(color_table()[None, :, :], 12, axis=0)
    image.paste(Image.fromarray(bar), (x, y))
    draw.text((x, y + 16), "0", FAINT, font(12))
    draw.text(
        (x + 256, y + 16), "1 (attention weight)", FAINT, font(12), anchor="ma" if image.width > x + 340 else "ra"
    )
