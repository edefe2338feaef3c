"""What the OpenAPI document says of an operation's answers beside its JSON: other media types, and what it may refuse.
Used by the routes; `service/document.py` adds what every operation may refuse and the shape of refusals."""

from typing import Any

Answers = dict[int | str, dict[str, Any]]

BINARY = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
EVENT = {"type": "object", "required": ["data"], "properties": {"data": TEXT, "id": TEXT, "event": TEXT}}
READ_AS_TEXT = ("text/", "image/svg+xml")


def forms(description: str, *media_types: str, status: int = 200) -> Answers:
    """A success that comes in these forms too; JSON stands beside them where the route has a response model."""
    content = {kind: {"schema": _schema_of(kind)} for kind in media_types}
    return {status: {"description": description, "content": content}}


def _schema_of(media_type: str) -> dict[str, Any]:
    """Of a stream, that of an event."""
    if media_type == "text/event-stream":
        return EVENT
    return TEXT if media_type.startswith(READ_AS_TEXT) else BINARY


def refusals(*statuses: int) -> Answers:
    """Statuses that only some operations answer with; `service/document.py` knows what each means."""
    return {status: {"description": ""} for status in statuses}
