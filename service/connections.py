"""What a connection may do before it is a request: how long its head may be and take, how slowly a body may come and an
answer may be taken, how many there may be. The server's own protocol (uvicorn with httptools) bounds none of these.

`main.py` gives `Connections.protocol` to the server. One sweep a second looks at all connections of the process, so
that a request costs no timer.
"""

import asyncio
import json
import resource
import socket
import struct
from dataclasses import dataclass
from typing import Any, Self

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import (
    HeadTooLarge,
    InvalidRequest,
    ServiceError,
    TooSlow,
    Unavailable,
    body_of,
    headers_of,
    status_of,
)
from service.gate import EVERY_ANSWER
from service.ids import new_id
from service.settings import Settings

MAX_HEAD_BYTES = 65_536  # request line and headers
LEAST_BYTES_PER_SECOND = 1_024  # of a body, over stall_seconds
SWEEP_SECONDS = 1.0
OTHER_FILES = 512  # open files that are no connections: models, the store, uploads
ROOM_SHARE = 64  # at the limit, one idle connection in so many makes room, so that looking for them is seldom

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER


@dataclass(frozen=True)
class Limits:
    """Of one API process."""

    connections: int
    stall_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = max(64, files - OTHER_FILES) if files != resource.RLIM_INFINITY else 1_000_000
        return cls(min(settings.max_connections or most, most), settings.stall_seconds)


class Connections:
    """All connections of one process."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def protocol(self, **given: Any) -> "Connection":
        """What the server calls for each connection."""
        return Connection(self, **given)

    def has_room(self) -> bool:
        """For one more; the connections that have been idle for longest go when there is none."""
        if len(self.open) < self.limits.connections:
            return True
        idle = sorted((one for one in self.open if one.is_idle()), key=lambda one: one.since)
        for one in idle[: max(1, self.limits.connections // ROOM_SHARE)]:
            one.leave()
        return len(self.open) < self.limits.connections

    def add(self, connection: "Connection") -> None:
        self.open.add(connection)
        if self._sweep is None:
            self._sweep = connection.loop.call_later(SWEEP_SECONDS, self._look, connection.loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self.open):
            connection.check(now, self.limits.stall_seconds)
        self._sweep = loop.call_later(SWEEP_SECONDS, self._look, loop) if self.open else None


class Connection(HttpToolsProtocol):
    """The server's protocol with an eye on time and size; whatever it refuses has our envelope."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self.ws_protocol_class = None  # there is no WebSocket here: an upgrade is a request like any other
        self.bounds = connections
        self.since = self.loop.time()  # when what it does now began, or last went on
        self.in_head, self.in_body = True, False
        self.head_bytes = self.body_bytes = 0  # of the head, of the body since `since`
        self.head_size: int | None = None  # of a head that is too large
        self.unsent, self.unsent_since = 0, self.since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.bounds.has_room():
            self.bounds.add(self)
        else:
            self.refuse(
                Unavailable("all connections are taken by requests; try again in a moment", retry_after_seconds=5)
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self.bounds.open.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.in_head:
            self.head_bytes += len(data)
        else:
            self.body_bytes += len(data)
        super().data_received(data)
        if self.in_head and self.head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.refuse(_head_too_large(self.head_bytes))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head, self.head_bytes, self.since = True, 0, self.loop.time()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self.head_size = size
            raise ValueError  # the parser stops, and the server calls send_400_response
        self.in_head, self.in_body = False, True
        self.body_bytes, self.since = 0, self.loop.time()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()

    def resume_writing(self) -> None:
        self.unsent_since = self.loop.time()  # the client takes what it is sent
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - its signature
        if self.head_size is not None:
            self.refuse(_head_too_large(self.head_size))
        else:
            self.refuse(InvalidRequest("this is no well-formed HTTP/1.1 request; check its line, headers and length"))

    def is_idle(self) -> bool:
        """Whether it asks for nothing, or has not asked yet."""
        return not self.in_body and (self.cycle is None or bool(self.cycle.response_complete))

    def leave(self) -> None:
        """Its place is free at once. The client sees a connection that ends, as after a keep-alive; amid an answer it
        is reset, else the kernel would keep what was not taken."""
        if self.unsent:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.bounds.open.discard(self)
        self.transport.abort()

    def check(self, now: float, stall_seconds: float) -> None:
        """Ends what takes too long."""
        if (unsent := self.transport.get_write_buffer_size()) != self.unsent or not unsent:
            self.unsent, self.unsent_since = unsent, now
        elif now - self.unsent_since > stall_seconds:
            self.leave()  # a client that does not take its answer
            return
        waited = now - self.since
        if self.transport.is_closing() or waited < stall_seconds:
            return
        if self.in_body:
            if self.flow.read_paused or self.body_bytes >= LEAST_BYTES_PER_SECOND * waited:
                self.body_bytes, self.since = 0, now
            else:
                rate = f"{self.body_bytes} bytes of the body came in {waited:.0f} s"
                self.refuse(TooSlow(f"{rate}; send at least {LEAST_BYTES_PER_SECOND} bytes a second"))
        elif self.in_head and self.head_bytes:
            self.refuse(TooSlow(f"the head of the request was not complete after {waited:.0f} s; send it at once"))
        elif self.is_idle():
            self.leave()

    def refuse(self, error: ServiceError) -> None:
        """Answers, unless an answer has begun, and ends the connection."""
        answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if not answering:
            self.transport.write(_answer(error))
        self.transport.close()
        self.in_head = self.in_body = False
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _head_too_large(size: int) -> HeadTooLarge:
    return HeadTooLarge(f"the head of the request has over {size - 1} bytes; the limit is {MAX_HEAD_BYTES}, send less")


def _answer(error: ServiceError) -> bytes:
    """A whole answer, since no application is asked."""
    body = json.dumps(body_of(error)).encode()
    given = headers_of(error) | {"x-request-id": new_id("req"), "content-type": "application/json"}
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    pairs += [*EVERY_ANSWER.items(), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    return b"".join([STATUS_LINE[status_of(error)], *(b"%s: %s\r\n" % pair for pair in pairs), b"\r\n", body])
