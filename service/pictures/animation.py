"""Pictures that move: how attention, or the places of texts among each other, changed over training. One frame a
checkpoint, with its caption; an animated PNG in full colour, or a GIF for where that is not shown.

Called by the compare route. The same frames give the same bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.pictures.canvas import Canvas, PixelCanvas, Sketch
from service.pictures.colors import FAINT, HEADS, INK, LINE, PAPER
from service.pictures.fonts import shortened, text_width
from service.pictures.heatmap import EDGE, NOTE, TITLE, Picture, attention_image
from service.pictures.lines import wrapped

Form = Literal["png", "gif"]
MEDIA_TYPES: dict[Form, str] = {"png": "image/apng", "gif": "image/gif"}
MAX_FRAMES = 100
FRAME_MILLISECONDS, LAST_MILLISECONDS = 700, 1800
SIDE = 560  # of the square that points lie in
MAX_COLORED = len(HEADS)


def animated(frames: Sequence[Image.Image], form: Form) -> bytes:
    """Repeats for ever and rests on the last frame. Frames are of one size."""
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise ValueError(f"{len(frames)} frames are not between 1 and {MAX_FRAMES}; choose fewer checkpoints")
    buffer = io.BytesIO()
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS]
    first, *others = _with_one_palette(frames) if form == "gif" else [frame.convert("RGB") for frame in frames]
    kind, last = ("GIF", {"optimize": False, "disposal": 1}) if form == "gif" else ("PNG", {"compress_level": 4})
    first.save(buffer, kind, save_all=True, append_images=others, duration=durations, loop=0, **last)
    return buffer.getvalue()


def _with_one_palette(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """A colour is the same in every frame, so that what stays does not flicker."""
    if all(frame.mode == "P" for frame in frames):
        return list(frames)
    sample = Image.new("RGB", (frames[0].width, frames[0].height * min(len(frames), 3)))
    for place, index in enumerate(sorted({0, len(frames) // 2, len(frames) - 1})):
        sample.paste(frames[index], (0, place * frames[0].height))
    colors = np.array(sample.quantize(255, Image.Quantize.MEDIANCUT).getpalette()).reshape(-1, 3)
    colors[colors.min(-1) >= 245] = PAPER  # which the mean of all that is nearly white is not
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors.astype(np.uint8).tobytes())
    return [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]


def heatmap_frames(pictures: Sequence[Picture], captions: Sequence[str]) -> list[Image.Image]:
    """Of one checkpoint each, with its caption; all in the colours of the largest number."""
    top = max(picture.top for picture in pictures)
    longest = max(captions, key=lambda caption: text_width(caption, TITLE))
    images = []
    for picture, caption in zip(pictures, captions, strict=True):
        padded = caption + "\u2007" * max(0, len(longest) - len(caption))
        images.append(attention_image(replace(picture, top=top, title=f"{picture.title} · {padded}")))
    width, height = max(image.width for image in images), max(image.height for image in images)
    return [_extended(image, width, height) for image in images]


def _extended(image: Image.Image, width: int, height: int) -> Image.Image:
    if image.size == (width, height):
        return image
    whole = Image.new("P", (width, height), image.getpixel((0, 0)))
    palette = image.getpalette()
    assert palette is not None
    whole.putpalette(palette)
    whole.paste(image, (0, 0))
    return whole


@dataclass(frozen=True)
class PointsPicture:
    """Texts as points in two dimensions, checkpoint by checkpoint. Align the frames first (Procrustes): turns of the
    whole say nothing."""

    points: npt.NDArray[np.float64]  # [F, N, 2]
    captions: Sequence[str]  # of the F frames, such as "step 400"
    names: Sequence[str]  # of the N points
    groups: Sequence[str]  # of the N points: what their colours mean
    title: str
    note: str

    def __post_init__(self) -> None:
        frames, points = self.points.shape[:2]
        if (frames, points, points) != (len(self.captions), len(self.names), len(self.groups)):
            raise ValueError(
                f"points of shape {self.points.shape} need {frames} captions, {points} names and {points} groups"
            )
        if len(set(self.groups)) > MAX_COLORED:
            raise ValueError(f"{len(set(self.groups))} groups exceed {MAX_COLORED} colours; join some of them")


def points_frames(picture: PointsPicture) -> list[Image.Image]:
    """Each point with the trail of where it was."""
    sketches = [points_sketch(picture, frame) for frame in range(len(picture.points))]
    images = []
    for sketch in sketches:
        canvas = PixelCanvas(sketch.width, sketch.height)
        sketch.draw(canvas)
        images.append(canvas.image)
    return images


def points_sketch(picture: PointsPicture, frame: int) -> Sketch:
    width = SIDE + 2 * EDGE
    title = wrapped(picture.title, width - 2 * EDGE, TITLE)
    notes = wrapped(picture.note, width - 2 * EDGE, NOTE)
    groups = sorted(set(picture.groups))
    legend = _legend_lines(groups, width - 2 * EDGE)
    top = 30 + 24 * len(title) + 18 * len(notes)
    height = top + SIDE + 40 + 20 * len(legend)
    places = _placed(picture.points, EDGE, top)

    def draw(canvas: Canvas) -> None:
        for index, line in enumerate(title):
            canvas.text(EDGE, 28 + 24 * index, line, TITLE)
        for index, line in enumerate(notes):
            canvas.text(EDGE, 28 + 24 * len(title) + 18 * index, line, NOTE, FAINT)
        canvas.box(EDGE, top, SIDE, SIDE, PAPER, 4, LINE)
        canvas.text(EDGE + SIDE - 12, top + 20, picture.captions[frame], 15, INK, "end")
        _draw_points(canvas, picture, places, frame, groups)
        for row, entries in enumerate(legend):
            for x, group in entries:
                y = top + SIDE + 24 + 20 * row
                canvas.dot(EDGE + x + 6, y, 5, HEADS[groups.index(group)])
                canvas.text(EDGE + x + 18, y, group, NOTE, FAINT)

    return Sketch(width, height, f"{picture.title} · {picture.captions[frame]}", draw)


def _placed(points: npt.NDArray[np.float64], left: float, top: float) -> npt.NDArray[np.float64]:
    """[F, N, 2] in a square, on one scale over all frames; up is up."""
    low, high = points.min((0, 1)), points.max((0, 1))
    scale = (SIDE - 2 * 40) / (float((high - low).max()) or 1.0)
    middle = (low + high) / 2
    centre = np.array([left + SIDE / 2, top + SIDE / 2])
    placed: npt.NDArray[np.float64] = centre + (points - middle) * scale * np.array([1, -1])
    return placed


def _draw_points(
    canvas: Canvas, picture: PointsPicture, places: npt.NDArray[np.float64], frame: int, groups: Sequence[str]
) -> None:
    """Trails first, then points, then as many names as find room."""
    for point, group in enumerate(picture.groups):
        for before in range(max(0, frame - 8), frame):
            x, y = places[before, point]
            canvas.dot(x, y, 2, HEADS[groups.index(group)], 0.12 + 0.05 * (before - frame + 8))
    for point, group in enumerate(picture.groups):
        x, y = places[frame, point]
        canvas.dot(x, y, 5, HEADS[groups.index(group)], 0.9)
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places[frame]]
    for point, name in enumerate(picture.names):
        label = shortened(name, 18).replace("␣", " ")
        x, y = places[frame, point]
        wide = text_width(label, 11)
        for left in (x + 8, x - 8 - wide):
            room = (left, y - 6, left + wide, y + 6)
            inside = left > EDGE and left + wide < EDGE + SIDE
            if inside and not any(_overlap(room, other) for other in taken):
                canvas.text(left, y, label, 11, INK)
                taken.append(room)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _legend_lines(groups: Sequence[str], room: float) -> list[list[tuple[float, str]]]:
    lines: list[list[tuple[float, str]]] = [[]]
    x = 0.0
    for group in groups:
        wide = 34 + text_width(group, NOTE)
        if lines[-1] and x + wide > room:
            lines.append([])
            x = 0.0
        lines[-1].append((x, group))
        x += wide
    return lines
