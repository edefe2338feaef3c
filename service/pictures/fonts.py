"""Which font draws which characters. A text is cut into runs that one font covers, in the order in which they are
seen: right-to-left scripts too. A character that no font has is drawn as U+FFFD, never as an empty box.
"""

import importlib.util
import struct
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import ImageFont, features

from service.pictures.joined import joined_letters
from service.pictures.reading_order import IGNORED, levels, reads_backwards, seen_order

REPLACEMENT = "�"
SCALE = 2  # pixels to one unit of a picture
SCRIPTS = (
    "Arabic", "Hebrew", "Devanagari", "Bengali", "Gujarati", "Gurmukhi", "Kannada", "Malayalam", "Oriya", "Sinhala",
    "Tamil", "Telugu", "Thai", "Lao", "Khmer", "Myanmar", "Armenian", "Georgian", "Ethiopic",
)  # fmt: skip
EMOJI = "Noto Emoji"
FAMILIES = ", ".join(  # for SVG: the same fonts where they are installed, then what systems have
    [
        "'Vitrine CJK', 'Noto Sans CJK TC', 'Noto Sans CJK SC', 'PingFang TC', 'Microsoft JhengHei', 'Noto Sans'",
        *(f"'Noto Sans {script}'" for script in SCRIPTS),
        "'Noto Sans Symbols', 'Noto Emoji', 'Noto Color Emoji', 'Apple Color Emoji', 'Segoe UI Emoji', sans-serif",
    ]
)
JOINER, EMOJI_SIGN = "\u200d", "\ufe0f"


def font_path() -> Path:
    """Noto Sans CJK, which has Latin, Greek, Cyrillic, Chinese, Japanese and Korean, in its package."""
    return _package("cvttf_NotoSansCJK_Regular", "cvttf-notosanscjk-regular") / "NotoSansCJKtc-Regular.otf"


def _package(name: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"a font package is missing; install {distribution}")
    return Path(spec.origin).parent


@dataclass(frozen=True)
class Typeface:
    family: str
    path: Path

    def has(self, text: str) -> bool:
        """All of it, leaving out what has no shape of its own."""
        starts, ends = _ranges(self.path)
        for character in text:
            if character in (JOINER, EMOJI_SIGN):
                continue
            place = bisect_right(starts, ord(character)) - 1
            if place < 0 or ord(character) > ends[place]:
                return False
        return True


@lru_cache(maxsize=1)
def typefaces() -> tuple[Typeface, ...]:
    """In the order in which they are asked."""
    folder = _package("manimgx_fonts", "manimgx-fonts")
    names = ["Noto Sans", *(f"Noto Sans {script}" for script in SCRIPTS), "Noto Sans Symbols", EMOJI]
    others = (Typeface(name, folder / f"{name.replace(' ', '')}[wght].ttf") for name in names)
    return (Typeface("Noto Sans CJK TC", font_path()), *others)


@lru_cache(maxsize=32)
def _ranges(path: Path) -> tuple[list[int], list[int]]:
    """First and last characters of the ranges a font has, ascending. The table of ranges (format 12) is read as it
    stands: with names of glyphs, as fontTools reads it, that of the CJK font takes a third of a second."""
    typeface = TTFont(path, lazy=True)
    table: bytes = typeface.reader["cmap"]
    (count,) = struct.unpack_from(">H", table, 2)
    for record in range(count):
        (start,) = struct.unpack_from(">4xL", table, 4 + 8 * record)
        kind, groups = struct.unpack_from(">H10xL", table, start)
        if kind == 12:
            ranges = np.frombuffer(table, ">u4", 3 * groups, start + 16).reshape(-1, 3)
            return ranges[:, 0].tolist(), ranges[:, 1].tolist()
    characters = sorted(typeface.getBestCmap())
    return characters, characters


@lru_cache(maxsize=256)
def font(size: int, path: Path | None = None) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path or font_path(), size)


@dataclass(frozen=True)
class Run:
    """A stretch of text that one font draws from one side to the other."""

    text: str
    typeface: Typeface
    backwards: bool  # from right to left

    def drawn(self, size: int) -> tuple[str, ImageFont.FreeTypeFont, str | None]:
        """What Pillow is given: the text, a font, a direction. Without its shaper the letters are put in order here."""
        own = font(size, self.typeface.path)
        if shapes():
            return self.text, own, "rtl" if self.backwards else "ltr"
        text = joined_letters(self.text).replace(EMOJI_SIGN, "")
        return ("".join(reversed(clusters(text))) if self.backwards else text), own, None

    def width(self, size: int) -> float:
        text, own, direction = self.drawn(size)
        return own.getlength(text, direction=direction)


@lru_cache(maxsize=1)
def shapes() -> bool:
    """Whether Pillow joins and orders letters itself; its raqm needs the system's libfribidi."""
    return bool(features.check("raqm"))


def clusters(text: str) -> list[str]:
    """Characters with the marks on them, and emoji made of several."""
    parts: list[str] = []
    for character in text:
        flags = parts and len(parts[-1]) == 1 and _is_flag_letter(parts[-1]) and _is_flag_letter(character)
        if parts and (flags or parts[-1][-1] == JOINER or _attaches(character)):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _attaches(character: str) -> bool:
    marks = unicodedata.category(character) in ("Mn", "Me", "Mc")
    return marks or character in (JOINER, "\u200c") or "\U0001f3fb" <= character <= "\U0001f3ff"


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _found(cluster: str, before: Typeface | None = None, beside_wide: bool = False) -> Typeface | None:
    """The first font that has it. Punctuation keeps the font of what is before it; what is wide among Chinese
    characters alone, such as a curly quote, has its narrow form elsewhere."""
    kind = unicodedata.category(cluster[0])
    faces = typefaces()
    if kind in ("Cc", "Cs", "Co", "Cn"):
        return None
    if EMOJI_SIGN in cluster:
        faces = (faces[-1], *faces[:-1])
    elif unicodedata.east_asian_width(cluster[0]) == "A" and not beside_wide:
        faces = (faces[1], *faces)
    elif before is not None and before.family != EMOJI and kind[0] in "ZP":
        faces = (before, *faces)
    return next((face for face in faces if face.has(cluster)), None)


@lru_cache(maxsize=4096)
def runs(text: str) -> tuple[Run, ...]:
    """From left to right as they are seen."""
    parts = _shown(text)
    pieces: list[tuple[str, Typeface, int]] = []
    before: Typeface | None = None
    wide = False
    for part, level in zip(parts, levels(parts, reads_backwards(text)), strict=True):
        before = _found(part, before, wide)
        assert before is not None, "what no font has was replaced"
        wide = unicodedata.east_asian_width(part[0]) in ("W", "F")
        if pieces and pieces[-1][1:] == (before, level):
            pieces[-1] = (pieces[-1][0] + part, before, level)
        else:
            pieces.append((part, before, level))
    return tuple(
        Run(pieces[place][0], pieces[place][1], pieces[place][2] % 2 == 1)
        for place in seen_order([level for _, _, level in pieces])
    )


def _shown(text: str) -> list[str]:
    """Clusters, with U+FFFD for those that no font has; what only turns its neighbours round is left out."""
    parts = (part for part in clusters(text) if unicodedata.bidirectional(part[0]) not in IGNORED)
    return [part if _found(part) else REPLACEMENT for part in parts]


def drawable(text: str) -> str:
    """What SVG gets: the characters that a picture shows."""
    return "".join(_shown(text))


@lru_cache(maxsize=8192)
def text_width(text: str, size: int) -> float:
    """As it is drawn, in units of a picture."""
    return sum(run.width(size * SCALE) for run in runs(text)) / SCALE


SIGNS = {" ": "␣", "\n": "¶", "\t": "→"}  # of what has no shape of its own
LABEL_LETTERS = 14  # a longer token is shown shortened


def shortened(label: str, letters: int = LABEL_LETTERS) -> str:
    """A label that fits its place."""
    parts = clusters("".join(SIGNS.get(character, character) for character in label))
    return "".join(parts if len(parts) <= letters else [*parts[: letters - 1], "…"])
