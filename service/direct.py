"""Answers the routes that are asked most without the layers of a web framework, which cost an event loop more time than
all that Vitrine does for such a request.

Only what goes well is answered here. A body that the route would refuse, of another content type or large, goes the
framework's way with nothing read from it lost, so that each refusal is made in one place. Between `gate.py`, which
answers for errors, and the application.
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.context import CALLER, Parts
from service.keys import OPEN, Caller
from service.large import json_of

MAX_BODY_BYTES = 256 * 1024  # in a larger one the framework's share is small
JSON = b"application/json"
READ = (JSON, JSON + b"; charset=utf-8", JSON + b";charset=utf-8")
Ask = Callable[[Any, Parts, Caller], Awaitable[BaseModel]]


@dataclass(frozen=True)
class Route:
    """How a request of one endpoint is read and answered: by POST, JSON for JSON."""

    path: str
    request: type[BaseModel]
    ask: Ask


class Direct:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, parts: Parts, routes: Iterable[Route]) -> None:
        self._app = app
        self._parts = parts
        self._routes = {route.path: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST" or not _is_small_json(scope):
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # for metrics and logs, as the framework does
        body = await _whole(receive)
        try:
            asked = route.request.model_validate(json.loads(body))
        except (ValidationError, ValueError, RecursionError):
            await self._app(scope, _again(body, receive), send)
            return
        answer = await route.ask(asked, self._parts, scope.get(CALLER, OPEN))
        content = await json_of(answer)
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _is_small_json(scope: Scope) -> bool:
    """Of a length that is told, so that no more than that is held."""
    kind = length = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value.lower() if kind is None else b"several"
        elif name == b"content-length":
            length = value
    return kind in READ and length is not None and length.isdigit() and 0 < int(length) <= MAX_BODY_BYTES


async def _whole(receive: Receive) -> bytes:
    """The body. Raises ClientDisconnect."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    """A receive that begins with this body."""
    read: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return read.pop() if read else await receive()

    return replay
