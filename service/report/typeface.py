"""The part of the CJK font that a page needs, to be carried within it: a report reads the same on every machine."""

import base64
import io
from functools import lru_cache

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

from service.pictures.fonts import font_path

FAMILY = "Vitrine CJK"


def font_face(text: str) -> str:
    """A style rule with the glyphs of the Chinese, Japanese and Korean characters in the text; empty without any."""
    wanted = frozenset(character for character in text if is_cjk(character))
    return _rule(wanted) if wanted else ""


def is_cjk(character: str) -> bool:
    code = ord(character)
    return 0x2E80 <= code <= 0x9FFF or 0xAC00 <= code <= 0xD7AF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0xFFEF


@lru_cache(maxsize=16)
def _rule(wanted: frozenset[str]) -> str:
    options = Options(layout_features=[], hinting=False, desubroutinize=True, notdef_outline=True)
    options.drop_tables += ["BASE", "GSUB", "GPOS", "VORG", "vhea", "vmtx"]  # upright text, each character by itself
    typeface = TTFont(font_path(), lazy=True)
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=[ord(character) for character in wanted])
    subsetter.subset(typeface)
    buffer = io.BytesIO()
    typeface.save(buffer)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'@font-face {{ font-family: "{FAMILY}"; font-display: block; src: url(data:font/otf;base64,{data}); }}\n'
