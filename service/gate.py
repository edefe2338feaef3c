"""The one wrapper around every request: Host and Origin check, key, body limit, request id, security headers, audit
log, metrics.

It is the outermost layer of ours and hands BentoML's own paths to our application too, so that no answer leaves
without OpenAI's error envelope.
"""

import asyncio
import json
import logging
import re
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.audit import AuditLog
from service.auth import SAFE_METHODS, Auth
from service.context import CALLER, Parts
from service.drain import stopping
from service.engine.spans import Trace, current_trace, in_trace
from service.engine.timings import Timings, timed
from service.errors import (
    INTERNAL_BODY,
    InvalidRequest,
    NoSuchRange,
    NotAllowed,
    ServiceError,
    TooLarge,
    body_of,
    headers_of,
    status_of,
)
from service.ids import new_id
from service.keys import Caller
from service.logs import QUIET, about, log_request

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
DOCS_POLICY = CONTENT_SECURITY_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
EVERY_ANSWER = {  # that does not say otherwise: a page of ours may have a stricter policy
    b"content-security-policy": CONTENT_SECURITY_POLICY.encode(),
    b"cache-control": b"no-cache",  # an upgrade must not mix old and new page modules
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}
EVERY_DOCS_ANSWER = EVERY_ANSWER | {b"content-security-policy": DOCS_POLICY.encode()}
UPLOAD_PATH = "/v1/files"
COMPUTING_PATHS = (
    "/v1/classify", "/v1/embeddings", "/v1/tag", "/v1/fill-mask", "/v1/completions", "/v1/attention", "/v1/explain",
    "/v1/trace", "/v1/drift", "/v1/attention/compare", "/v1/explain/compare",
)  # fmt: skip
JOB_ID = re.compile(r"ftjob-\w+")  # what else stands in its place may be anything
FOUND_BY_ROUTER = ("route", "path_params")  # in a request's scope, for its log and metrics
UNMATCHED = "unmatched"  # the route of what has none
PATIENCE_SECONDS = 0.1  # after which it is worth looking whether the client still waits
CLIENT_LEFT = 499  # for the metrics and logs, as nginx has it; nobody receives it
log = logging.getLogger("vitrine.gate")


class Gate:
    """ASGI middleware; `app` is what answers."""

    def __init__(self, app: ASGIApp, parts: Parts, auth: Auth, audit: AuditLog) -> None:
        self.app = app
        self.settings = parts.settings
        self.metrics = parts.metrics
        self.drain = parts.drain
        self.traces = parts.traces
        self.auth = auth
        self.audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with about(request=new_id("req")) as ids, timed() as timings, in_trace(self._trace(scope, ids)):
            await self._handle(scope, receive, send, ids["request"], timings)

    def _trace(self, scope: Scope, ids: dict[str, str]) -> Trace | None:
        """Of what is worth a line in the log; `ids` is told its place."""
        if self.traces is None or scope["path"].startswith(QUIET):
            return None
        known = {"http.request.method": _standard_method(scope), "url.scheme": scope["scheme"]}
        return self.traces.request(
            Headers(scope=scope), ids, {**known, "network.protocol.version": scope["http_version"]}
        )

    async def _handle(self, scope: Scope, receive: Receive, send: Send, request_id: str, timings: Timings) -> None:
        started = time.perf_counter()
        status = 0
        told = False  # by us, in the place of what the application said
        left = False  # the client, before it was answered: of a body cut short the application says what it likes

        async def send_marked(message: Message) -> None:
            nonlocal status, told
            if told:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if status in (400, 416) and (refused := _range_refused(message)) is not None:
                    error, sizes = refused
                    await _answer(send_marked, status, body_of(error), headers_of(error) | sizes)
                    told = True
                    return
                wanted = EVERY_DOCS_ANSWER if scope["path"] == "/docs" else EVERY_ANSWER
                given = dict(message["headers"])
                missing = [(name, value) for name, value in wanted.items() if name not in given]
                marked = [*message["headers"], *missing, (b"x-request-id", request_id.encode())]
                if timings.known:
                    marked += _timing_headers(timings)
                if self.drain.begun:
                    marked.append((b"connection", b"close"))
                message = {**message, "headers": marked}
            await send(message)

        async def receive_watched() -> Message:
            nonlocal left
            message = await receive()
            left = left or (message["type"] == "http.disconnect" and status == 0)
            return message

        headers = Headers(scope=scope)
        try:
            with self.drain.accepted(scope["path"]):
                await self._answered(scope, headers, receive_watched, send_marked)
        except (_ClientLeft, ClientDisconnect):
            status = CLIENT_LEFT
        except asyncio.CancelledError:
            if not self.drain.over or status:
                raise
            error = stopping()
            await _answer(send_marked, status_of(error), body_of(error), headers_of(error))
        except ServiceError as error:
            await _answer(send_marked, status_of(error), body_of(error), headers_of(error))
        except Exception:
            log.exception("request %s failed: %s %s", request_id, _method(scope), _route(scope))
            if status == 0:
                await _answer(send_marked, 500, INTERNAL_BODY, {})
            elif status != 500:  # amid an answer: the server cuts the connection
                raise
        finally:
            if left:
                status = CLIENT_LEFT
            if scope["method"] not in SAFE_METHODS or status in (401, 403):
                self.audit.write(request_id, scope, status)
            seconds = time.perf_counter() - started
            self.metrics.request(_route(scope), _method(scope), status, seconds)
            known = _known_of(scope, timings)
            log_request(scope["path"], _route(scope), _method(scope), status, seconds, **known)
            if (trace := current_trace()) is not None:
                _end(trace, scope, status, known)

    async def _answered(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._check_host(headers)
        scope[CALLER] = await self.auth.caller(scope["method"], scope["path"], headers, _server(scope))
        bounded = await self._bounded(scope, headers, receive)
        if scope["path"] in COMPUTING_PATHS:
            await _while_there(self.app, scope, bounded, send)
        elif scope["method"] == "HEAD":
            await _without_body(self.app, scope, bounded, send)
        else:
            await self.app(scope, bounded, send)

    def _check_host(self, headers: Headers) -> None:
        """Refuses names that are not ours: a hostile page can point its own name at this machine (DNS rebinding)."""
        allowed = self.settings.allowed_host_names
        if "*" in allowed:
            return
        if len(headers.getlist("host")) > 1:
            raise InvalidRequest("the request has several Host headers, of which others may take another; send one")
        host = headers.get("host", "")
        origin = headers.get("origin")
        for header, name in (("Host", _hostname(f"//{host}")), ("Origin", _hostname(origin) if origin else None)):
            if name is not None and name not in allowed:
                given = host if header == "Host" else origin
                raise NotAllowed(
                    f"{header} {given!r} is not allowed; this service answers to {', '.join(sorted(allowed))}, "
                    "add names with VITRINE_ALLOWED_HOSTS"
                )

    async def _bounded(self, scope: Scope, headers: Headers, receive: Receive) -> Receive:
        """A receive whose body keeps the limit. Uploads have a limit of their own and are counted as they stream."""
        length = headers.get("content-length")
        is_upload = scope["path"] == UPLOAD_PATH
        limit = self.settings.max_file_bytes + 65_536 if is_upload else self.settings.max_body_bytes
        if length is not None and (not length.isdigit() or int(length) > limit):
            remedy = "split the file" if is_upload else "send fewer or shorter texts a request"
            raise TooLarge(f"the body has {length[:20]} bytes; the limit is {limit}, {remedy}")
        if length is not None or is_upload or scope["method"] in ("GET", "HEAD"):
            return receive
        body = b""
        while True:  # a chunked body: its size is known only once it is here
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > limit:
                raise TooLarge(f"the body exceeds {limit} bytes; send fewer or shorter texts a request")
            if not message.get("more_body"):
                break
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        return replay


class _ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def _while_there(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """The application, cancelled when the client leaves, so that what it asked for costs nothing more. Looking for that
    takes a task, so it begins when the answer takes a while. Raises _ClientLeft."""
    loop = asyncio.get_running_loop()
    here = asyncio.current_task()
    assert here is not None
    looking: asyncio.TimerHandle | asyncio.Task[None] | None = None
    left = False

    async def look() -> None:
        nonlocal left
        if (await receive())["type"] == "http.disconnect":
            left = True
            here.cancel()

    def begin() -> None:
        nonlocal looking
        looking = loop.create_task(look())

    async def receive_marked() -> Message:
        nonlocal looking
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body") and looking is None:
            looking = loop.call_later(PATIENCE_SECONDS, begin)  # the body is here: what comes next is the end
        return message

    async def send_marked(message: Message) -> None:
        if looking is not None:
            looking.cancel()  # it is answered; one that streams looks for itself
        await send(message)

    try:
        await app(scope, receive_marked, send_marked)
    except asyncio.CancelledError:
        if not left:
            raise
        here.uncancel()
        raise _ClientLeft from None
    finally:
        if looking is not None:
            looking.cancel()


async def _without_body(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """What GET would answer, but for its body (RFC 9110, section 9.3.2). The application is stopped once its headers
    are known: a stream of events would go on for ever, a file would be read for nobody."""
    asked = {**scope, "method": "GET"}
    known = asyncio.Event()

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})
            known.set()

    answering = asyncio.ensure_future(app(asked, receive, send_headers))
    looking = asyncio.ensure_future(known.wait())
    try:
        await asyncio.wait((answering, looking), return_when=asyncio.FIRST_COMPLETED)
        if not known.is_set():
            await answering  # it has failed
    finally:
        answering.cancel()
        looking.cancel()
        await asyncio.gather(answering, looking, return_exceptions=True)
        scope.update({name: asked[name] for name in FOUND_BY_ROUTER if name in asked})


def _range_refused(start: Message) -> tuple[ServiceError, dict[str, str]] | None:
    """What a file's answer says by itself about a Range header, in text, as an error of ours, with the header that has
    the file's size; None for our own answers."""
    headers = Headers(raw=start["headers"])
    if headers.get("content-type") == "application/json":
        return None
    sizes = {name: headers[name] for name in ("content-range",) if name in headers}
    if start["status"] == 416:
        return NoSuchRange("the file has no such range; Content-Range has its size, ask for bytes below it"), sizes
    return InvalidRequest("the Range header can't be read; send 'bytes=FIRST-LAST', or leave it out"), sizes


async def _answer(send: Send, status: int, body: dict[str, object], headers: dict[str, str]) -> None:
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    pairs = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def _hostname(url: str) -> str:
    """The host of a URL in lower case, IPv6 in brackets; '' when there is none."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return f"[{name}]" if ":" in name else name


def _timing_headers(timings: Timings) -> list[tuple[bytes, bytes]]:
    """In milliseconds."""
    return [
        (b"x-queue-time", b"%.1f" % (1000 * timings.queue_seconds)),
        (b"x-inference-time", b"%.1f" % (1000 * timings.inference_seconds)),
    ]


def _known_of(scope: Scope, timings: Timings) -> dict[str, Any]:
    """For a request's line in the log: ids that we have given, and times. What is None is not known."""
    caller, job = scope.get(CALLER), scope.get("path_params", {}).get("job_id", "")
    known = caller if isinstance(caller, Caller) else None
    return {
        "owner": known.owner if known else None,
        "key": known.key_id if known else None,
        "job": job if JOB_ID.fullmatch(job) else None,
        "queue_ms": round(1000 * timings.queue_seconds, 1) if timings.known else None,
        "inference_ms": round(1000 * timings.inference_seconds, 1) if timings.known else None,
    }


def _end(trace: Trace, scope: Scope, status: int, known: dict[str, Any]) -> None:
    """By OpenTelemetry's names for HTTP. The path is left out, as in the log: a client may write anything there."""
    route = None if _route(scope) == UNMATCHED else _route(scope)
    left = status in (0, CLIENT_LEFT)
    trace.tell(**{name: known[name] for name in ("owner", "key", "job")}, client_left=True if left else None)
    http = {"http.route": route, "http.response.status_code": None if left else status}
    trace.end(" ".join(filter(None, (_standard_method(scope), route))), str(status) if status >= 500 else None, http)


def _server(scope: Scope) -> str:
    return str((scope.get("server") or ("", None))[0])


def _route(scope: Scope) -> str:
    """The route's template, so that ids do not become labels; known of some before the router has seen the request."""
    route = scope.get("route")
    fixed = scope["path"] if scope["path"] in COMPUTING_PATHS else UNMATCHED
    return str(getattr(route, "path", "")) or fixed


def _method(scope: Scope) -> str:
    return (
        str(scope["method"])
        if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS")
        else "other"
    )


def _standard_method(scope: Scope) -> str:
    """By OpenTelemetry's names."""
    method = _method(scope)
    return "_OTHER" if method == "other" else method
