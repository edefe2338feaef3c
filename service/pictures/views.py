"""The views of attention that a request may ask for: what each can show, and how it is drawn. Called by the attention
route."""

from collections.abc import Sequence
from typing import Literal

from service.errors import InvalidRequest
from service.pictures.canvas import Sketch
from service.pictures.flow import FlowPicture, flow_sketch
from service.pictures.heads import MAX_HEADS, heads_sketch
from service.pictures.heatmap import Picture, attention_png, attention_sketch

View = Literal["heatmap", "heads", "flow"]
VIEWS = (
    "of a picture. heatmap: a matrix with labels, or a grid of them; heads: lines from the tokens of one layer to those"
    " they look at, a colour a head; flow: what each token takes from which, layer by layer, heads averaged"
)
FOCUS = "in view flow: the place of the one row whose sources are shown, counted from 0; without it all are"
MAX_ROWS = {"heatmap": 600, "heads": 160, "flow": 48}  # that can be read


def check_view(
    view: View, focus: int | None, picture: bool, method: str, layers: Sequence[int], heads: Sequence[int | str]
) -> None:
    """Before anything is computed. picture: the answer is one."""
    if not picture and view != "heatmap":
        raise InvalidRequest(
            f"view is {view!r} and the answer would be no picture; send Accept: image/png or image/svg+xml", "view"
        )
    if focus is not None and view != "flow":
        raise InvalidRequest(f"focus is {focus} and view is {view!r}; leave focus out or send view=flow", "focus")
    if view == "heads" and len(layers) > 1:
        raise InvalidRequest(
            f"{len(layers)} layers exceed the 1 that view heads shows; choose one, such as layers={layers[0]}", "layers"
        )
    if view == "heads" and len(heads) > MAX_HEADS:
        raise InvalidRequest(
            f"{len(heads)} heads exceed the {MAX_HEADS} colours of view heads; choose some, such as "
            f"heads={heads[0]}-{heads[MAX_HEADS - 1]}",
            "heads",
        )
    if view == "flow" and method == "rollout":
        raise InvalidRequest("view flow mixes the layers itself; send method=raw or value_norm with it", "method")
    if view == "flow" and list(layers) != list(range(layers[0], layers[-1] + 1)):
        raise InvalidRequest(
            f"layers {', '.join(map(str, layers))} have gaps that view flow can not cross; choose neighbours, such as "
            f"layers={layers[0]}-{layers[-1]}",
            "layers",
        )


def check_rows(view: View, focus: int | None, rows: int) -> None:
    if rows > MAX_ROWS[view]:
        raise InvalidRequest(
            f"{rows} rows exceed {MAX_ROWS[view]} in a picture of view {view}; shorten the input, or merge to words"
        )
    if focus is not None and focus >= rows:
        raise InvalidRequest(f"focus {focus} does not exist; this text has rows 0 to {rows - 1}", "focus")


def view_png(view: View, picture: Picture, focus: int | None) -> bytes:
    return attention_png(picture) if view == "heatmap" else _sketch(view, picture, focus).png()


def view_svg(view: View, picture: Picture, focus: int | None) -> bytes:
    return _sketch(view, picture, focus).svg()


def _sketch(view: View, picture: Picture, focus: int | None) -> Sketch:
    if view == "heads":
        return heads_sketch(picture)
    if view == "flow":
        mean = picture.weights.mean(1)  # [L, U, U]
        return flow_sketch(FlowPicture(mean, picture.labels, picture.layers, picture.title, focus))
    return attention_sketch(picture)
