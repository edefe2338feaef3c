"""Saliency strips: what is coloured how, where lines break, and what the legend says."""

import dataclasses

import numpy as np
import pytest

from service.pictures.colors import INK, signed_color
from service.pictures.fonts import SCALE
from service.pictures.running_text import Setting, pieces_of
from service.pictures.saliency import (
    MARGIN,
    SaliencyPicture,
    faithfulness_note,
    saliency_png,
    saliency_sketch,
    saliency_svg,
)
from tests.pictured import SAMPLES, pixels_of, units_of_text, words_of

NOTE = faithfulness_note("better than random", (0.31, 0.08), (0.05, 0.22))


def picture_of(*texts: str, scores: list[float] | None = None) -> SaliencyPicture:
    units = [unit for segment, text in enumerate(texts) for unit in units_of_text(text, segment)]
    own = scores or np.random.default_rng(0).standard_normal(len(units)).tolist()
    return SaliencyPicture(texts, units, own, "a model · a method", "positive", None, [NOTE])


@pytest.mark.parametrize("script", SAMPLES)
def test_a_strip_is_the_same_each_time_and_its_text_stays_text(script: str) -> None:
    picture = picture_of(SAMPLES[script])
    assert saliency_png(picture) == saliency_png(picture)
    assert saliency_svg(picture) == saliency_svg(picture)
    words = words_of(saliency_svg(picture))
    assert {unit.text for unit in picture.units} <= {word.replace("\u200d", "") for word in words} | set(words)
    assert (
        NOTE == "faithfulness: better than random (comprehensiveness 0.31, random 0.08; sufficiency 0.05, random 0.22)"
    )
    assert {"a model · a method", NOTE, "0"} <= set(words)
    assert any("blue: for positive" in word for word in words)


def test_colours_are_those_of_the_scores() -> None:
    picture = picture_of("good bad so", scores=[0, 2.0, -2.0, 0.5, 0])
    pixels = pixels_of(saliency_png(picture))
    sketch = saliency_sketch(picture)
    assert pixels.shape[:2] == (sketch.height * SCALE, sketch.width * SCALE)
    found = set(map(tuple, pixels.reshape(-1, 3).tolist()))
    for score in (2.0, -2.0, 0.5):
        assert signed_color(score, 2.0) in found
    assert signed_color(-0.5, 2.0) not in found - {tuple(row) for row in pixels[-120:].reshape(-1, 3).tolist()}


def test_letters_are_legible_on_the_deepest_colours() -> None:
    def luminance(color: tuple[int, int, int]) -> float:
        shares = [channel / 255 for channel in color]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for end in (-1.0, 1.0):
        assert (luminance(signed_color(end, 1.0)) + 0.05) / (luminance(INK) + 0.05) >= 4.5


def test_lines_break_between_words_and_between_chinese_characters() -> None:
    english = picture_of("unbelievably long words go on " * 12)
    setting = Setting.of(english.texts, english.pieces, 700)
    assert setting.num_lines > 1
    for line in range(setting.num_lines):
        own = [placed for placed in setting.placed if placed.line == line]
        assert own[-1].x + own[-1].piece.width <= 700
    text = "电影很好，" * 30
    chinese = Setting.of([text], pieces_of([text], units_of_text(text), [0.0] * 152), 400)
    firsts = [min((p for p in chinese.placed if p.line == n), key=lambda p: p.x) for n in range(1, chinese.num_lines)]
    assert all(placed.piece.text != "，" for placed in firsts)


def test_a_text_from_right_to_left_begins_at_the_right() -> None:
    picture = picture_of(SAMPLES["Hebrew"])
    placed = Setting.of(picture.texts, picture.pieces, 700).placed
    first, last = placed[-1], placed[0]
    assert (first.piece.text, last.piece.text) == ("[CLS]", "[SEP]")
    assert first.x + first.piece.width == pytest.approx(700)


@pytest.mark.parametrize(("target", "against"), [("a label of many words " * 9, None), ("投诉" * 40, "表扬" * 40)])
def test_long_labels_and_words_end_inside_of_the_picture(target: str, against: str | None) -> None:
    picture = dataclasses.replace(picture_of("w" * 300 + " end"), target=target, against=against)
    picture = dataclasses.replace(picture, scores=[score / 1e6 for score in picture.scores])
    pixels = pixels_of(saliency_png(picture))
    assert (pixels[:, -2 * MARGIN :] == 255).all(), "the right edge is empty"
    words = " ".join(words_of(saliency_svg(picture)))
    assert "white: neither" in words
    assert "numbers ×10" in words


def test_units_of_one_place_are_one_piece_with_the_sum() -> None:
    units = [dataclasses.replace(units_of_text("😀")[1], tokens=(place,)) for place in range(4)]
    (piece,) = pieces_of(["😀"], units, [0.1, 0.2, 0.3, -0.1])
    assert (piece.text, piece.score) == ("😀", pytest.approx(0.5))


def test_markup_in_a_text_is_text() -> None:
    picture = dataclasses.replace(picture_of("<script>alert(1)</script> & \x00"), title="<b>", target='"&<x>')
    words = words_of(saliency_svg(picture))
    assert {"<", "&", "\ufffd", "<b>"} <= set(words)
