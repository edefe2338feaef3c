"""What pydantic found wrong with a request, in our words: which field, what came, what is wanted."""

from collections.abc import Sequence
from typing import Any

from service.errors import InvalidRequest

SHOWN = 10
CODES = {  # pydantic's kind of finding -> OpenAI's code; what ends in _type is an invalid_type
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
}
PLACES = ("body", "query", "path")  # where FastAPI says a field stands


def told_of_values(found: Sequence[Any]) -> InvalidRequest:
    """One error of all findings; it names the first field."""
    messages = []
    for item in found[:SHOWN]:
        path = ".".join(str(part) for part in item["loc"] if part not in PLACES)
        message = str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such field here; check its spelling, or see /docs"
        unshown = item["type"] in ("missing", "json_invalid", "value_error")
        given = "" if unshown else f" (got {item.get('input')!r:.80})"
        messages.append(f"{path}: {message}{given}" if path else f"the body: {message}{given}")
    location = [str(part) for part in found[0]["loc"] if part not in PLACES]
    param = location[0] if location and found[0]["type"] != "json_invalid" else None
    return InvalidRequest("; ".join(messages), param, _code(str(found[0]["type"])))


def told_of_body(error: RecursionError | ValueError) -> InvalidRequest:
    """A body that is no JSON for another reason than its grammar."""
    if isinstance(error, RecursionError):
        reason = "is nested too deeply"
    elif isinstance(error, UnicodeDecodeError):
        reason = f"is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start})"
    else:
        reason = "has a number of too many digits"
    return InvalidRequest(f"the body {reason}; send one JSON object in UTF-8")


def _code(kind: str) -> str | None:
    return "invalid_type" if kind.endswith("_type") else CODES.get(kind)
