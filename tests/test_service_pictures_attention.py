"""Heatmaps, the head view and the flow view: what is drawn where, the same each time, with a legend."""

import dataclasses
import io
from collections.abc import Callable
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from model.explain.attention import rollout
from service.errors import InvalidRequest
from service.pictures.colors import HEADS, PAPER, color_table
from service.pictures.flow import FlowPicture, flow_sketch
from service.pictures.fonts import SCALE
from service.pictures.heads import HeadsLayout, heads_sketch
from service.pictures.heatmap import GridLayout, HeatmapLayout, Picture, attention_png, attention_svg
from service.pictures.views import check_rows, check_view
from tests.pictured import SAMPLES, pixels_of, words_of


def picture_of(layers: int = 1, heads: int = 1, units: int = 6) -> Picture:
    weights = np.random.default_rng(0).dirichlet(np.full(units, 0.3), (layers, heads, units)).astype(np.float32)
    labels = [*list(SAMPLES.values()), "<b>&"][:units] if units <= len(SAMPLES) + 1 else [f"t{n}" for n in range(units)]
    return Picture(weights, labels, range(layers), range(heads), "a model", "row: looks", "attention weight")


def flow_of(layers: int, focus: int | None) -> FlowPicture:
    picture = picture_of(layers, 2)
    return FlowPicture(picture.weights.mean(1), picture.labels, picture.layers, "a model", focus)


VIEWS: dict[str, tuple[Callable[[], bytes], Callable[[], bytes], set[str]]] = {
    "heatmap": (lambda: attention_png(picture_of(units=22)), lambda: attention_svg(picture_of(units=22)),
                {"a model · layer 0, head 0", "row: looks", "attention weight", "0", "1", "<b>&"}),
    "grid": (lambda: attention_png(picture_of(2, 3)), lambda: attention_svg(picture_of(2, 3)),
             {"layer 1", "head 2", "attention weight"}),
    "heads": (lambda: heads_sketch(picture_of(1, 3, 22)).png(), lambda: heads_sketch(picture_of(1, 3, 22)).svg(),
              {"a model · layer 0", "head 2", "attention weight", "weights below 0.05 are left out", "<b>&"}),
    "flow": (lambda: flow_sketch(flow_of(3, None)).png(), lambda: flow_sketch(flow_of(3, None)).svg(),
             {"a model", "embeddings", "layer 2", "blue: taken from another token · grey: kept"}),
    "flow of one": (lambda: flow_sketch(flow_of(3, 2)).png(), lambda: flow_sketch(flow_of(3, 2)).svg(), {"layer 2", "50 %"}),
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_the_same_each_time_and_says_what_its_colours_mean(view: str) -> None:
    png, svg, legend = VIEWS[view]
    assert png() == png()
    assert svg() == svg()
    assert legend <= set(words_of(svg()))


@pytest.mark.parametrize("signed", [False, True])
def test_a_cell_of_a_heatmap_has_the_colour_of_its_weight(signed: bool) -> None:
    picture = dataclasses.replace(picture_of(), signed=signed, sides=("less", "more"))
    picture.weights[0, 0, 2] = [0, 1, 0.5, 0.25, -1, 0.125]
    layout = HeatmapLayout.of(picture)
    pixels = pixels_of(attention_png(picture)).astype(int)
    assert pixels.shape == (layout.height * SCALE, layout.width * SCALE, 3)
    for column in range(6):
        x, y = (layout.margin + (column + 0.5) * layout.cell), layout.top + 2.5 * layout.cell
        expected = color_table(signed)[picture.levels[0, 0, 2, column]]
        assert np.abs(pixels[int(y * SCALE), int(x * SCALE)] - expected).max() <= 6, "192 of 256 colours"
    if signed:
        assert tuple(pixels[int(y * SCALE), int((layout.margin + 0.5 * layout.cell) * SCALE)]) == PAPER


def test_a_tile_of_a_grid_stands_at_its_layer_and_head() -> None:
    for units in (5, 32, 128):
        picture = picture_of(2, 3, units)
        picture.weights[:] = 0
        picture.weights[1, 2, 3, 4] = 1
        layout = GridLayout.of(picture)
        assert layout.side >= 40
        x, y = layout.corner(1, 2)
        cell = layout.side / units
        pixels = pixels_of(attention_png(picture))
        assert tuple(pixels[int((y + 3.5 * cell) * SCALE), int((x + 4.5 * cell) * SCALE)]) == tuple(color_table()[255])
        assert tuple(pixels[int((y + 4.5 * cell) * SCALE), int((x + 3.5 * cell) * SCALE)]) == tuple(color_table()[0])


def test_the_colours_of_heads_differ_to_common_and_to_colour_blind_eyes() -> None:
    seen = [  # what remains of linear light: all, without long, middle or short waves (Machado et al. 2009)
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
    shares = np.array(HEADS) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    for matrix in seen:
        lab = lab_of(np.clip(linear @ np.array(matrix).T, 0, 1))
        assert min(float(np.linalg.norm(lab[one] - lab[two])) for one, two in combinations(range(12), 2)) > 25
        assert lab[:, 0].max() < 78, "seen on white"


def lab_of(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


def test_the_strongest_line_joins_the_token_that_looks_and_the_one_looked_at() -> None:
    picture = picture_of(1, 2)
    picture.weights[:] = 0.01
    picture.weights[0, 1, 4, 1] = 1.0
    layout = HeadsLayout.of(picture)
    pixels = pixels_of(heads_sketch(picture).png()).astype(int)
    inside = pixels[layout.top * SCALE : (layout.height - 76) * SCALE]
    for x, unit in ((layout.left + 4, 4), (layout.left + 256, 1)):
        column = inside[:, int(x * SCALE)]
        coloured = np.nonzero(np.abs(column - HEADS[1]).max(-1) < 40)[0]
        assert coloured.mean() / SCALE + layout.top == pytest.approx(layout.y(unit), abs=3), "one line, no other"
    assert heads_sketch(picture).svg().count(b"<path") == 1 + 3, "and three in the legend"


def test_more_lines_than_can_be_told_apart_raise_the_threshold_that_is_stated() -> None:
    picture = picture_of(1, 8, 60)
    picture.weights[:] = np.linspace(0.1, 1, picture.weights.size).reshape(picture.weights.shape)
    assert heads_sketch(picture).svg().count(b"<path") == 1500 + 3
    assert any(word.startswith("weights below 0.95 are left out") for word in words_of(heads_sketch(picture).svg()))


def test_the_flow_into_one_token_is_its_row_of_the_rollout() -> None:
    layers, focus = 4, 3
    picture = picture_of(layers, 2)
    flow = FlowPicture(picture.weights.mean(1), picture.labels, picture.layers, "a model", focus)
    expected = rollout(torch.from_numpy(picture.weights))
    shares = flow.shares()
    assert shares is not None
    assert shares[0] == pytest.approx(np.array(expected).reshape(layers, -1, 6, 6)[-1, 0, focus], abs=1e-5)
    assert shares.sum(-1) == pytest.approx(1)
    assert f"{100 * shares[0, 0]:.1f} %" in words_of(flow_sketch(flow).svg())


def test_a_row_without_attention_keeps_all() -> None:
    mixing = FlowPicture(np.zeros((1, 2, 2), np.float32), ["a", "b"], [0], "a model").mixing()
    assert np.array_equal(mixing[0], np.eye(2))


@pytest.mark.parametrize("sketch", [lambda: heads_sketch(picture_of(1, 3)), lambda: flow_sketch(flow_of(2, None))])
def test_a_picture_has_two_pixels_for_each_unit_of_its_drawing(sketch: Callable[[], object]) -> None:
    made = sketch()
    image = Image.open(io.BytesIO(made.png()))  # type: ignore[attr-defined]
    assert image.size == (made.width * SCALE, made.height * SCALE)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("heads", None, False, "raw", [0], [0]), "answer would be no picture; send Accept: image/png"),
        (("heads", None, True, "raw", [0, 1, 2], [0]), "3 layers exceed the 1 that view heads shows; choose one"),
        (("heads", None, True, "raw", [0], list(range(16))), "16 heads exceed the 12 colours .* heads=0-11"),
        (("flow", None, True, "rollout", [0, 1], ["all"]), "send method=raw or value_norm"),
        (("flow", None, True, "raw", [0, 2], [0]), "layers 0, 2 have gaps .* layers=0-2"),
        (("heatmap", 3, True, "raw", [0], [0]), "leave focus out or send view=flow"),
    ],
)
def test_what_a_view_can_not_show_is_refused(given: tuple[object, ...], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check_view(*given)  # type: ignore[arg-type]


def test_rows_that_can_not_be_read_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="49 rows exceed 48 in a picture of view flow; shorten the input"):
        check_rows("flow", None, 49)
    with pytest.raises(InvalidRequest, match="focus 7 does not exist; this text has rows 0 to 6"):
        check_rows("flow", 7, 7)
