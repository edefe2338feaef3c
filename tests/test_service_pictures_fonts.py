"""Every character has a shape, in the order in which it is read."""

import base64
import io
import re

import pytest
from fontTools.ttLib import TTFont
from PIL import ImageFont

from service.pictures import fonts
from service.pictures.embedded import font_faces
from service.pictures.fonts import (
    EMOJI_SIGN,
    JOINER,
    REPLACEMENT,
    clusters,
    drawable,
    runs,
    shortened,
    text_width,
)
from service.pictures.joined import joined_letters
from tests.pictured import SAMPLES


def glyphs(text: str, font: ImageFont.FreeTypeFont) -> bytes:
    return bytes(font.getmask(text))


@pytest.mark.parametrize("script", SAMPLES)
def test_no_glyph_is_missing(script: str) -> None:
    shown = runs(SAMPLES[script])
    text = "".join(run.text for run in shown)
    assert sorted(text) == sorted(SAMPLES[script])
    assert REPLACEMENT not in text
    for run in shown:
        own = ImageFont.truetype(run.typeface.path, 24, layout_engine=ImageFont.Layout.BASIC)
        box = glyphs("\U000ffffe", own)
        for character in set(run.text) - {" ", JOINER, EMOJI_SIGN}:
            assert glyphs(character, own) != box, f"{character} in {run.typeface.family}"


def test_what_no_font_has_is_shown_by_the_replacement_sign() -> None:
    for text in ("\U00012000", "\ue123", "\x07", "\ufffe", "\ud800"):
        assert drawable(f"a{text}b") == f"a{REPLACEMENT}b" == "".join(run.text for run in runs(f"a{text}b"))
    assert drawable("a\u202eb") == "ab", "no text turns its neighbours round"


def test_marks_and_joined_emoji_stay_together() -> None:
    assert clusters("e\u0301👍🏽🇫🇷🇩🇪👩‍👧x") == ["e\u0301", "👍🏽", "🇫🇷", "🇩🇪", "👩‍👧", "x"]
    assert shortened("👩‍👧" * 20) == "👩‍👧" * 13 + "…"


def test_right_to_left_runs_are_seen_in_their_order() -> None:
    def seen(text: str) -> list[tuple[str, bool]]:
        return [(run.text.strip(), run.backwards) for run in runs(text) if run.text.strip()]

    assert seen("abc שלום xyz") == [("abc", False), ("שלום", True), ("xyz", False)]
    assert [word for word, _ in seen("שלום 7/10, ok")] == ["ok", ",", "7/10", "שלום"]


def test_arabic_letters_join_without_a_shaper(monkeypatch: pytest.MonkeyPatch) -> None:
    assert joined_letters("سلام") == "\ufeb3\ufee0\ufe8e\ufee1"
    assert joined_letters("ل\u200d") == "\ufedf", "a part of a word keeps its form"
    shaped = text_width("سلام", 20)
    monkeypatch.setattr(fonts, "shapes", lambda: False)
    text_width.cache_clear()
    assert text_width("سلام", 20) == pytest.approx(shaped, rel=0.2)
    text_width.cache_clear()


@pytest.mark.parametrize("script", SAMPLES)
def test_an_svg_brings_the_letters_that_machines_may_lack(script: str) -> None:
    text = drawable(SAMPLES[script])
    faces = font_faces([text, "A plain title"])
    assert faces == font_faces(["A plain title", text])
    brought: set[int] = set()
    for data in re.findall(r"base64,([^)]*)\)", faces):
        font = TTFont(io.BytesIO(base64.b64decode(data)))
        brought |= font.getBestCmap().keys()
        assert len(font.getGlyphOrder()) < 300
    assert {letter for letter in text if not letter.isascii()} - {JOINER, EMOJI_SIGN} <= set(map(chr, brought))
    assert bool(faces) == (not text.isascii())


def test_ascii_brings_nothing() -> None:
    assert font_faces(["A good film", "12 %"]) == ""
