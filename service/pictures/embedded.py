"""The letters of an SVG, in the SVG: of each font the few glyphs that are used, so that no machine shows boxes.

ASCII is left to the machine's own fonts. Called by `canvas.py`.
"""

import base64
import io
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

from service.pictures.fonts import runs

# Written into documents that are opened by themselves: their letters and tiles are within, and nothing else is fetched.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; font-src data:; img-src data:"


def font_faces(texts: Iterable[str]) -> str:
    """CSS for what is not ASCII in these texts; empty where all is."""
    wanted: dict[tuple[str, Path], set[str]] = {}
    for text in texts:
        for run in runs(text):
            if not run.text.isascii():
                wanted.setdefault((run.typeface.family, run.typeface.path), set()).update(run.text)
    return "".join(
        f"@font-face{{font-family:'{family}';src:url(data:font/woff;base64,{_glyphs(path, ''.join(sorted(letters)))})}}"
        for (family, path), letters in wanted.items()
    )


@lru_cache(maxsize=64)
def _glyphs(path: Path, letters: str) -> str:
    """A font with these letters alone and what joins them, base64. Some tenths of a second for the CJK font."""
    options = subset.Options()
    options.hinting, options.flavor, options.name_IDs = False, "woff", []
    font = TTFont(path, lazy=True)
    chosen = subset.Subsetter(options)
    chosen.populate(text=letters)
    chosen.subset(font)
    font["head"].modified = font["head"].created  # the time is no part of a picture
    font.recalcTimestamp = False
    font.flavor = "woff"
    made = io.BytesIO()
    font.save(made)
    return base64.b64encode(made.getvalue()).decode()
