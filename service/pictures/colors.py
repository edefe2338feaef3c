"""Colours that say the same to colour-blind eyes: a scale from 0 up, a scale around 0, and one colour for each head."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Color = tuple[int, int, int]
Levels = npt.NDArray[np.uint8]  # places in a table of 256 colours

INK: Color = (24, 32, 44)
PAPER: Color = (255, 255, 255)
FAINT: Color = (95, 105, 119)
LINE: Color = (217, 222, 230)
PANEL: Color = (244, 246, 249)
# Anchors of the viridis map (van der Walt and Smith 2015): even steps in lightness.
VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99),
    (170, 220, 50), (253, 231, 37),
)  # fmt: skip
# Orange below zero, white at zero, blue above, as on the page: light enough for dark letters on either end.
AROUND_ZERO = ((234, 124, 28), (250, 190, 128), PAPER, (146, 190, 236), (68, 140, 218))
MIDDLE = 128  # the level of zero
# One colour for each head, found by search: any two are far apart (CIELAB) to common eyes and to the three kinds of
# colour blindness (Machado, Oliveira and Fernandes 2009), and dark enough for lines on white.
HEADS: tuple[Color, ...] = (
    (30, 20, 245), (187, 51, 0), (68, 204, 119), (238, 153, 187), (85, 0, 153), (187, 187, 0), (34, 119, 85),
    (153, 170, 255), (187, 51, 153), (102, 0, 0), (170, 85, 255), (85, 17, 68),
)  # fmt: skip


@lru_cache(maxsize=2)
def color_table(signed: bool = False) -> Levels:
    """256 colours [256, 3]: dark for 0 and bright for 255, or orange for 1, white for 128 and blue for 255."""
    anchors = np.array(AROUND_ZERO if signed else VIRIDIS)
    steps = np.linspace(0, len(anchors) - 1, 255 if signed else 256)
    channels = [np.interp(steps, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    table = np.stack(channels, axis=-1).round().astype(np.uint8)
    return np.concatenate([table[:1], table]) if signed else table


def levels_of(numbers: npt.NDArray[np.floating], top: float, signed: bool = False) -> Levels:
    """Places in the table: from 0 to `top`, or from -`top` to `top`."""
    low, room, least = (MIDDLE, 127, 1) if signed else (0, 255, 0)
    places = numbers * (room / top) + (low + 0.5)  # the half rounds when the fraction is cut off
    levels: Levels = np.clip(places, least, 255, out=places).astype(np.uint8)
    return levels


def signed_color(number: float, top: float) -> Color:
    level = int(levels_of(np.array([number]), top, signed=True)[0])
    red, green, blue = color_table(signed=True)[level].tolist()
    return red, green, blue


def hexadecimal(color: Color) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in color)
