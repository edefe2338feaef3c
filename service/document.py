"""The OpenAPI document: what FastAPI knows of the routes, with the key, the refusals and the headers that the gate and
`errors.py` give to all of them. Served as `/openapi.json`, shown by `/docs`, read by generators of clients."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.schemas.base import ErrorBody

METHODS = ("get", "post", "delete")
TAGS = {
    "inference": "Text in, answers out: labels, vectors, tags, masked words, text written on, tokens.",
    "explain": "What a model looks at and why it answers as it does: as JSON, or by `Accept` as a picture.",
    "files": "Training data and requests for batches; what is in a file; what jobs leave.",
    "fine-tuning": "Jobs that tune a model on a file. They survive restarts, can be paused, and go on from the step.",
    "models": "What can be called, how it is built, and names that stand for one version.",
    "batches": "Bulk prediction from a file, while nobody else asks.",
    "webhooks": "Addresses that are told when a job or a batch has ended.",
    "session": "API keys and a browser's session.",
    "system": "Probes and metrics, without a key.",
}
ABOUT = """
The wire format is OpenAI's where it has one, so its clients work unmodified with `base_url` set to this address and
`/v1`; what is ours comes as extra fields. Send an API key as `Authorization: Bearer vt-...` once the service has keys
(`vitrine keys create --owner NAME`); until then it answers its own machine without one.

Times are seconds since 1970 in UTC, unless their name says otherwise. Lists are cut into pages by `limit`; the next
page comes by `after`, the id of the last item. Every answer has an `x-request-id`, which the log has too, and every
refusal is `{"error": {"message", "type", "param", "code"}}` with a message that says what to change.
"""
REFUSALS: dict[int, tuple[str, str]] = {  # status -> the component's name, what it means
    400: ("BadRequest", "A value that can't be used. `param` names the field, `message` what is wanted."),
    401: ("Unauthorized", "No API key, or one that is unknown, revoked or expired."),
    403: ("Forbidden", "A key without the scope for this, or a Host or Origin that this service does not answer to."),
    404: ("NotFound", "No such thing, or it is another owner's."),
    409: ("Conflict", "The thing is in a state that forbids this; with `retry-after`, not for long."),
    413: ("TooLarge", "A body, a file or a request over its limit; the message names the limit."),
    415: ("UnsupportedMediaType", "The body is not of the content type that this operation reads."),
    416: ("NoSuchRange", "The file has no such range; `content-range` has its size."),
    424: ("Unreachable", "Another service that was to be called does not answer, or must not be called."),
    429: ("TooManyRequests", "A queue is full, or the owner's rate is used up. `retry-after` says when to come again."),
    500: ("Internal", "A fault of ours; the log has the reason under the request id."),
    503: ("Unavailable", "Not ready yet, or stopping."),
    504: ("TimedOut", "The request was accepted and not answered in time."),
}  # fmt: skip
HEADERS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name -> the component's name, what it is, its schema
    "x-request-id": ("RequestId", "id of this request in the log", {"type": "string", "pattern": "^req-[0-9a-f]+$"}),
    "retry-after": ("RetryAfter", "seconds to wait before the next try", {"type": "integer", "minimum": 1}),
    "www-authenticate": ("Authenticate", "how to send the key", {"type": "string", "const": "Bearer"}),
    "x-queue-time": ("QueueTime", "milliseconds of waiting for a batch", {"type": "number", "minimum": 0}),
    "x-inference-time": ("InferenceTime", "milliseconds in the model", {"type": "number", "minimum": 0}),
}
HEADERS_OF_REFUSAL = {401: ("www-authenticate",), 429: ("retry-after",)}
TIMES = ("x-queue-time", "x-inference-time")  # where a model was asked
COMPUTING_TAGS = ("inference", "explain")
KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `vt-...`; a browser that has logged in by `POST /login` sends a cookie in its place.",
}


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _complete(
            get_openapi(
                title=app.title,
                version=app.version,
                openapi_version="3.1.0",
                summary=app.summary,
                description=ABOUT.strip(),
                routes=app.routes,
                tags=[{"name": name, "description": text} for name, text in TAGS.items()],
                license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            )
        )
    return app.openapi_schema


def operation_id(route: APIRoute) -> str:
    """The name of the route's function: what a generated client calls its method."""
    return route.name


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own errors, which we never send
        components["schemas"].pop(unused, None)
    error = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= error.pop("$defs") | {"ErrorBody": error}
    components["securitySchemes"] = {"api_key": KEY}
    components["headers"] = {
        component: {"description": text, "required": name not in TIMES, "schema": schema}
        for name, (component, text, schema) in HEADERS.items()
    }
    components["responses"] = {name: _refusal(status, text) for status, (name, text) in REFUSALS.items()}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                _complete_operation(path, operations[method])
    _unions_by_enum(document)
    return document


def _unions_by_enum(part: Any) -> None:
    """A member of a union that is one value, as an enumeration of one: it means the same, and openapi-python-client
    takes the first `const` that does not fit for a fault of the whole answer."""
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _unions_by_enum(inner)
    for member in part.get("anyOf", ()) if isinstance(part, dict) else ():
        if "const" in member:
            member["enum"] = [member.pop("const")]


def _refusal(status: int, text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    return {
        "description": text,
        "headers": _headers("x-request-id", *HEADERS_OF_REFUSAL.get(status, ())),
        "content": {"application/json": {"schema": schema}},
    }


def _complete_operation(path: str, operation: dict[str, Any]) -> None:
    """Every status that this operation may answer with, and no other."""
    operation["summary"] = operation["operationId"].replace("_", " ").capitalize()
    answers = operation["responses"]
    answers.pop("422", None)
    tag = operation["tags"][0]
    own = {int(status) for status in answers if int(status) >= 400}
    statuses = {403, 500} | own  # by its Host, any
    if "requestBody" in operation:
        statuses |= {400, 413, 415}
    if operation.get("parameters"):
        statuses.add(400)
    if path.startswith("/v1/"):
        statuses |= {401, 429, 503}
        operation["security"] = [{"api_key": []}]
    if tag in COMPUTING_TAGS:
        statuses |= {404, 504}
    for status in statuses:
        answers[str(status)] = {"$ref": f"#/components/responses/{REFUSALS[status][0]}"}
    for status, answer in answers.items():
        if "$ref" not in answer:
            times = TIMES if tag in COMPUTING_TAGS and status == "200" else ()
            answer["headers"] = answer.get("headers", {}) | _headers("x-request-id", *times)
    operation["responses"] = dict(sorted(answers.items()))


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{HEADERS[name][0]}"} for name in names}
