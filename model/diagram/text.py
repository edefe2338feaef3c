"""Numbers and names as both renderers write them. Fonts are unknown, so widths are estimates on the wide side."""

import unicodedata

from model.diagram.blocks import Block, Shape

_UNITS = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "K"))
_NARROW, _WIDE = frozenset("ijlt.,:;'|!()[]fI "), frozenset("mwMW@%→")


def compact(number: int) -> str:
    """Three digits and a unit: 23.4M; below ten thousand the number itself: 1,536."""
    if number < 10_000:
        return f"{number:,}"
    for size, unit in _UNITS:
        if number >= size * 0.9995:  # 999,950 is 1M, not 1000K
            scaled = number / size
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{unit}"
    raise AssertionError(number)


def parameters_text(number: int) -> str:
    return f"{compact(number)} params"


def flops_text(number: int) -> str:
    """4.72 MFLOPs."""
    text = compact(number)
    return f"{text[:-1]} {text[-1]}FLOPs" if text[-1].isalpha() else f"{text} FLOPs"


def axes_text(shape: Shape) -> str:
    """[B, T, D 768]."""
    return f"[{', '.join(map(str, shape))}]"


def shape_text(block: Block) -> str:
    """[B, T, D 768] → [B, T, V 30,522], or one of them where the block keeps the shape."""
    return " → ".join(dict.fromkeys(axes_text(shape) for shape in (block.input, block.output) if shape))


def clean(text: str, limit: int = 200) -> str:
    """On one line, without what XML forbids or what turns the direction of the text around it."""
    kept = "".join(character for character in text if not _is_harmful(character))
    line = " ".join(kept.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _is_harmful(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cc":
        return not character.isspace()
    turns = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return category == "Cs" or turns or ord(character) & 0xFFFE == 0xFFFE


def width(text: str, size: float, bold: bool = False) -> float:
    """Estimated width in pixels at a font size."""
    return sum(map(_em, text)) * size * (1.1 if bold else 1.0)


def fit(text: str, size: float, room: float, bold: bool = False) -> str:
    """The text, or as much of its start as fits, with an ellipsis."""
    if width(text, size, bold) <= room:
        return text
    while text and width(f"{text}…", size, bold) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _em(character: str) -> float:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0.0
    if ord(character) >= 0x1F000:  # emoji and the rarer ideographs
        return 1.4
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in _NARROW:
        return 0.4
    if character in _WIDE:
        return 0.95
    return 0.72 if character.isupper() else 0.63 if character.isascii() else 1.0


def wrap(text: str, size: float, room: float) -> list[str]:
    """Lines no wider than the room."""
    lines: list[str] = []
    for word in text.split():
        if lines and width(f"{lines[-1]} {word}", size) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
