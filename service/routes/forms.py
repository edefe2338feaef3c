"""An answer that has several forms: the Accept header chooses, and a picture gets the policy that its letters need."""

import json
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from fastapi import Request, Response

from service.pictures.embedded import POLICY

JSON = "application/json"
SVG = "image/svg+xml"
MAX_JSON_NUMBERS = 2_400_000  # 12 layers of 12 heads at 128 tokens


def chosen_form(request: Request, forms: Iterable[str]) -> str:
    """The one of these media types and JSON that the client wants most of those that it names, the first of equals;
    JSON when it names none."""
    wanted = accepted(request.headers.get("accept", ""))
    best = max((*forms, JSON), key=lambda form: wanted.get(form, 0.0))
    return best if wanted.get(best, 0.0) > 0 else JSON


def accepted(header: str) -> dict[str, float]:
    """The media types that an Accept header names, and how much each is wanted: `q`, 0 for not at all."""
    wanted: dict[str, float] = {}
    for part in header.split(","):
        kind, *options = (piece.strip().lower() for piece in part.split(";"))
        quality = next((option[2:] for option in options if option.startswith("q=")), "1")
        wanted[kind] = float(quality) if re.fullmatch(r"[01](\.[0-9]{0,3})?", quality) else 1.0
    return wanted


def formed(content: bytes | str, form: str) -> Response:
    headers = {"vary": "accept"} | ({"content-security-policy": POLICY} if form == SVG else {})
    return Response(content, media_type=form, headers=headers)


def nested_json(matrices: npt.NDArray[np.float32]) -> bytes:
    """[L, H, U, U], rounded to 4 digits. Row by row: one long call would hold up the event loop, in a thread too."""
    rounded = np.round(matrices.astype(np.float64), 4)
    layers = [
        "[" + ",".join("[" + ",".join(json.dumps(row.tolist()) for row in matrix) + "]" for matrix in layer) + "]"
        for layer in rounded
    ]
    return f"[{','.join(layers)}]".encode()
