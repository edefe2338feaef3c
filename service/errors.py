"""Domain errors, and the one table that turns them into a status and OpenAI's error body. Routes raise, this maps."""

from dataclasses import dataclass
from typing import Any


@dataclass
class ServiceError(Exception):
    """An error a client can understand: what was wrong, the limit, the remedy. Subclasses name the kind."""

    message: str
    param: str | None = None
    code: str | None = None
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        return self.message


class InvalidRequest(ServiceError):
    """A value that can't be used."""


class Unauthorized(ServiceError):
    """No key, or one that is not good."""


class Forbidden(ServiceError):
    """A good key that may not do this."""


class NotAllowed(ServiceError):
    """A Host or Origin that is not on the allow-list."""


class NotFound(ServiceError):
    """No such file, job, model or route."""


class MethodNotAllowed(ServiceError):
    """The route exists, the method does not."""


class Conflict(ServiceError):
    """The thing is in a state that forbids this; a retry would meet the same state."""


class TooLarge(ServiceError):
    """A body or file over its limit."""


class NoSuchRange(ServiceError):
    """A part of a file that it does not have."""


class HeadTooLarge(ServiceError):
    """A request line and headers over their limit."""


class TooSlow(ServiceError):
    """A request that does not come to an end."""


class WrongContentType(ServiceError):
    """A body of a kind that the route does not read."""


class Busy(ServiceError):
    """A queue is full; the client may come again."""


class Unreachable(ServiceError):
    """Another service that we were to call does not answer, or must not be called."""


class Unavailable(ServiceError):
    """Not ready yet, or stopping."""


class ArtefactsUnavailable(Unavailable):
    """The store that hosts share does not answer, or refuses."""


class TimedOut(ServiceError):
    """An accepted request was not answered in time."""


# kind -> status, OpenAI error type, default code
STATUS: dict[type[ServiceError], tuple[int, str, str]] = {
    InvalidRequest: (400, "invalid_request_error", "invalid_value"),
    Unauthorized: (401, "invalid_request_error", "invalid_api_key"),
    Forbidden: (403, "permission_error", "insufficient_permissions"),
    NotAllowed: (403, "invalid_request_error", "host_not_allowed"),
    NotFound: (404, "invalid_request_error", "not_found"),
    MethodNotAllowed: (405, "invalid_request_error", "method_not_allowed"),
    Conflict: (409, "invalid_request_error", "conflict"),
    TooLarge: (413, "invalid_request_error", "too_large"),
    NoSuchRange: (416, "invalid_request_error", "range_not_satisfiable"),
    HeadTooLarge: (431, "invalid_request_error", "head_too_large"),
    TooSlow: (408, "invalid_request_error", "request_timeout"),
    WrongContentType: (415, "invalid_request_error", "unsupported_content_type"),
    Busy: (429, "rate_limit_error", "queue_full"),
    Unreachable: (424, "invalid_request_error", "endpoint_unreachable"),
    Unavailable: (503, "server_error", "unavailable"),
    ArtefactsUnavailable: (503, "server_error", "unavailable"),
    TimedOut: (504, "server_error", "timeout"),
}


def status_of(error: ServiceError) -> int:
    return STATUS[type(error)][0]


def body_of(error: ServiceError) -> dict[str, Any]:
    _, kind, code = STATUS[type(error)]
    return envelope(error.message, kind, error.param, error.code or code)


def headers_of(error: ServiceError) -> dict[str, str]:
    headers = {"www-authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    elif isinstance(error, Conflict):  # the openai client retries 409 unless told not to
        headers["x-should-retry"] = "false"
    return headers


def envelope(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


INTERNAL_BODY = envelope(
    "the service failed on this request; the log has the reason under the request id", "server_error", None, "internal"
)
