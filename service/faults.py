"""What pydantic found wrong with a request, in our words: which field, what came, what is wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from service.errors import InvalidRequest

SHOWN = 10  # fields
LOOKED_AT = 100  # findings; a large body can have a hundred thousand
CODES = {  # pydantic's kind of finding -> OpenAI's code; what ends in _type is an invalid_type
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
}


@dataclass(frozen=True)
class _Finding:
    path: tuple[str, ...]  # from the body, query or path on
    message: str
    given: str
    of_union: bool  # one of several kinds of value that the field takes


def told_of_values(error: RequestValidationError | ValidationError, body: Any = None) -> InvalidRequest:
    """One error of all findings; it names the first field. Without the body that was read, where the error does not
    have it, the paths have pydantic's names for the kinds of value that a field takes."""
    placed = isinstance(error, RequestValidationError)
    body = error.body if isinstance(error, RequestValidationError) else body
    found = error.errors()
    told = _one_a_field([_finding(item, body, placed) for item in found[:LOOKED_AT]])[:SHOWN]
    messages = [f"{'.'.join(one.path) or 'the body'}: {one.message}{one.given}" for one in told]
    location = [str(part) for part in found[0]["loc"][placed:]]
    param = location[0] if location and found[0]["type"] != "json_invalid" else None
    return InvalidRequest("; ".join(messages), param, _code(str(found[0]["type"])))


def _finding(item: Any, body: Any, placed: bool) -> _Finding:
    kind = item["type"]
    path, of_union = _path(item["loc"][placed:], None if kind == "json_invalid" else body, kind == "missing")
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = "there is no such field here; check its spelling, or see /docs"
    unshown = kind in ("missing", "json_invalid", "value_error")
    return _Finding(path, message, "" if unshown else f" (got {item.get('input')!r:.80})", of_union)


def _path(location: Sequence[int | str], body: Any, is_missing: bool) -> tuple[tuple[str, ...], bool]:
    """The keys and places that lead to a value, and whether pydantic names a kind of value among them: what the body
    does not have there."""
    path, here, of_union = [], body, False
    for number, part in enumerate(location, start=1):
        if part in _parts(here):
            here = here[part]
        elif body is not None and not (is_missing and number == len(location)):
            of_union = True
            continue
        path.append(str(part))
    return tuple(path), of_union


def _parts(value: Any) -> Mapping[Any, Any] | range:
    """What leads further into a value: its keys, or its places."""
    return value if isinstance(value, Mapping) else range(len(value) if isinstance(value, list) else 0)


def _one_a_field(found: Sequence[_Finding]) -> list[_Finding]:
    """What a field takes in one sentence. Where a kind of value was tried that has parts, what is wrong is in these."""
    by_path: dict[tuple[str, ...], _Finding] = {}
    for one in found:
        inside = any(one.path == other.path[: len(one.path)] != other.path for other in found)
        if one.of_union and inside:
            continue
        before = by_path.setdefault(one.path, one)
        if one.message not in before.message:
            also = one.message.removeprefix("Input should be ")
            by_path[one.path] = replace(before, message=f"{before.message}, or {also}")
    return list(by_path.values())


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
