"""An answer that has several forms: the Accept header chooses, and a picture gets the policy that its letters need."""

from collections.abc import Iterable

from fastapi import Request, Response

from service.pictures.embedded import POLICY

JSON = "application/json"
SVG = "image/svg+xml"


def chosen_form(request: Request, forms: Iterable[str]) -> str:
    """The first of these media types that the client accepts by name, else JSON."""
    accept = request.headers.get("accept", "")
    return next((form for form in forms if form in accept), JSON)


def formed(content: bytes | str, form: str) -> Response:
    headers = {"vary": "accept"} | ({"content-security-policy": POLICY} if form == SVG else {})
    return Response(content, media_type=form, headers=headers)
