"""A collector of OpenTelemetry's protocol (OTLP over HTTP) on loopback, for tests: it keeps what it is sent, or hangs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Mood = Literal["takes", "refuses", "hangs"]


@dataclass(frozen=True)
class Told:
    """A span as it came."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    began: float  # seconds
    ended: float
    known: dict[str, Any]
    links: tuple[tuple[str, str], ...]  # trace, span
    failed: bool
    moments: dict[str, float]
    resource: dict[str, Any]

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class Collector:
    """What was sent to `url`."""

    url: str
    mood: Mood = "takes"
    spans: list[Told] = field(default_factory=list)
    exports: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def roots(self, request_id: str) -> list[Told]:
        """Of a request, by what its answer's x-request-id says."""
        return [span for span in list(self.spans) if span.known.get("vitrine.request") == request_id]

    def below(self, parent: Told) -> list[Told]:
        return sorted((span for span in list(self.spans) if span.parent == parent.id), key=lambda span: span.began)

    def named(self, name: str) -> list[Told]:
        return [span for span in list(self.spans) if span.name == name]

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _known(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_told(span, resource) for span in scope.spans]


def _known(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def _told(span: Any, resource: dict[str, Any]) -> Told:
    links = tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links)
    times = {event.name: event.time_unix_nano / 1e9 for event in span.events}
    began, ended = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    failed = span.status.code == 2  # STATUS_CODE_ERROR
    return Told(span.name, span.kind, *ids, began, ended, _known(span.attributes), links, failed, times, resource)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.exports += 1
            if collector.mood == "hangs":
                collector.over.wait(120)
                return
            right = (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            status = 404 if not right else 503 if collector.mood == "refuses" else 200
            if status == 200:
                collector.take(body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
