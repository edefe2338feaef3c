"""An answer that has several forms: the Accept header chooses, and a picture gets the policy that its letters need."""

import json
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from fastapi import Request, Response

from service.pictures.embedded import POLICY

JSON = "application/json"
SVG = "image/svg+xml"
MAX_JSON_NUMBERS = 2_400_000  # 12 layers of 12 heads at 128 tokens


def chosen_form(request: Request, forms: Iterable[str]) -> str:
    """The first of these media types that the client accepts by name, else JSON."""
    accept = request.headers.get("accept", "")
    return next((form for form in forms if form in accept), JSON)


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
