"""Differences of two pictures, and pictures that move."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from service.pictures.animation import PointsPicture, animated, heatmap_frames, points_frames, points_sketch
from service.pictures.colors import PAPER, signed_color
from service.pictures.comparison import StripsPicture, difference_of, strips_png, strips_svg
from service.pictures.heatmap import EDGE, HeatmapLayout, Picture, attention_png, attention_svg
from service.pictures.saliency import MARGIN, SaliencyPicture
from tests.pictured import SAMPLES, pixels_of, units_of_text, words_of


def picture_of(first: float) -> Picture:
    weights = np.array([[[[first, 1 - first], [0.5, 0.5]]]], np.float32)
    return Picture(weights, ["<a>", "电影"], [2], [1], "a model", "row: looks", "attention weight")


def saliency_of(text: str, seed: int) -> SaliencyPicture:
    units = units_of_text(text)
    scores = np.random.default_rng(seed).standard_normal(len(units)).tolist()
    return SaliencyPicture([text], units, scores, "a model", "positive", notes=[f"logit {seed}"])


def points_of(frames: int = 3) -> PointsPicture:
    points = np.random.default_rng(0).standard_normal((frames, 4, 2))
    captions = [f"step {frame * 100}" for frame in range(frames)]
    return PointsPicture(points, captions, list(SAMPLES.values())[:4], ["good", "bad"] * 2, "drift <b>", "aligned")


def test_a_difference_is_blue_where_the_second_has_more() -> None:
    made = difference_of(picture_of(0.75), picture_of(0.25), ("base", "tuned"), "base and tuned")
    assert made.top == 0.5
    layout = HeatmapLayout.of(made)
    pixels = pixels_of(attention_png(made)).astype(int)
    for row, column, expected in ((0, 0, signed_color(-1, 1)), (0, 1, signed_color(1, 1)), (1, 0, PAPER)):
        x, y = layout.margin + (column + 0.5) * layout.cell, layout.top + (row + 0.5) * layout.cell
        assert tuple(pixels[int(2 * y), int(2 * x)]) == expected
    words = words_of(attention_svg(made))
    assert {"−0.5", "0", "0.5", "<a>"} <= set(words)
    assert "difference of the attention weight · orange: tuned less than base · blue: tuned more" in words


@pytest.mark.parametrize(("layers", "heads"), [([2], [1]), ([2, 3], [1, 4])])
def test_long_names_of_the_sides_end_inside_of_the_picture(layers: list[int], heads: list[int]) -> None:
    weights = np.full((len(layers), len(heads), 2, 2), 0.5, np.float32)
    one = dataclasses.replace(picture_of(0.5), weights=weights, layers=layers, heads=heads)
    names = ("ft:minilm-l6:vitrine:movie-demo:a2fbbceb:ckpt-step-133", "北京是中华人民共和国的首都，历史悠久，" * 9)
    made = difference_of(one, one, names, "both")
    drawn = pixels_of(attention_png(made))
    paper = np.all(drawn == PAPER, axis=-1)
    assert paper[:, -EDGE:].all(), "the right edge is empty"
    assert paper[-8:].all(), "and the lower one"
    words = " ".join(words_of(attention_svg(made)))
    assert "ckpt-step-133" in words.replace(" ", "")
    assert words.endswith("more")
    first, second = saliency_of("a good film", 1), saliency_of("x" * 300 + " film", 2)
    drawn = pixels_of(strips_png(StripsPicture("a title", names, first, second)))
    assert np.all(drawn[:, -MARGIN:] == PAPER), "the right edge is empty"


def test_pictures_of_other_tokens_have_no_difference() -> None:
    other = dataclasses.replace(picture_of(0.5), labels=["a", "b"])
    with pytest.raises(ValueError, match=r"labels .* differ; compare the same tokens"):
        difference_of(picture_of(0.5), other, ("base", "tuned"), "")


def test_strips_of_the_same_text_end_with_their_difference() -> None:
    first, second = saliency_of("a good film", 1), saliency_of("a good film", 2)
    picture = StripsPicture("a title", ("base", "tuned"), first, second)
    assert picture.difference is not None
    assert picture.difference.scores == pytest.approx(np.subtract(second.scores, first.scores))
    words = words_of(strips_svg(picture))
    assert words.count("good") == 3
    assert {"a title", "base", "tuned", "tuned minus base", "logit 1", "logit 2"} <= set(words)
    assert strips_png(picture) == strips_png(picture)
    assert strips_svg(picture) == strips_svg(picture)


def test_strips_of_two_texts_stand_one_above_the_other() -> None:
    picture = StripsPicture("", ("before", "after"), saliency_of("a good film", 1), saliency_of("a bad film", 2))
    assert picture.difference is None
    words = words_of(strips_svg(picture))
    assert words.index("good") < words.index("bad")


@pytest.mark.parametrize("form", ["png", "gif"])
def test_an_animation_has_a_frame_a_checkpoint_and_repeats(form: str) -> None:
    for frames in (
        points_frames(points_of()),
        heatmap_frames([picture_of(0.2), picture_of(0.7), picture_of(0.9)], ["step 1", "step 20", "step 300"]),
    ):
        made = animated(frames, form)  # type: ignore[arg-type]
        assert made == animated(frames, form)  # type: ignore[arg-type]
        image = Image.open(io.BytesIO(made))
        assert (image.n_frames, image.info["loop"]) == (3, 0)  # type: ignore[attr-defined]
        shown = []
        for place in range(3):
            image.seek(place)
            shown.append(np.asarray(image.convert("RGB")).astype(int))
            assert image.info["duration"] == (1800 if place == 2 else 700)
            assert tuple(shown[-1][0, 0]) == PAPER
            assert np.abs(shown[-1] - np.asarray(frames[place].convert("RGB"))).mean() < 1
        assert (shown[0] != shown[1]).any()


def test_a_frame_names_its_step_and_its_points() -> None:
    picture = points_of()
    words = words_of(points_sketch(picture, 1).svg())
    assert {"step 100", "drift <b>", "aligned", "good", "bad"} <= set(words)
    assert set(words) & {"Greek", SAMPLES["Greek"]}
    places = points_sketch(picture, 2).svg()
    assert places.count(b"<circle") == 4 * 2 + 4 + 2, "trails, points and legend"


def test_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="101 frames are not between 1 and 100"):
        animated([Image.new("RGB", (2, 2))] * 101, "gif")
    with pytest.raises(ValueError, match="need 3 captions, 4 names and 4 groups"):
        dataclasses.replace(points_of(), names=["one"])
