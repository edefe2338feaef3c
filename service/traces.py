"""OpenTelemetry traces of requests and jobs, sent by OTLP over HTTP when VITRINE_TRACES is `otlp`. Made by `app.py` and
the worker; where they go, which are sampled and under which name is said by OpenTelemetry's own variables.

Nothing of OpenTelemetry is imported here before `start`: without traces there is nothing to load.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, Self

from service import VERSION
from service.engine.spans import Trace
from service.metrics import Metrics
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, Tracer

    from service.span_queue import Outcome, SpanQueue

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
PROTOCOL = "http/protobuf"
PROTOCOL_SETTINGS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
FLUSH_SECONDS = 2.0  # for the last spans, when the process ends
Role = Literal["api", "worker"]
log = logging.getLogger("vitrine.traces")


class Traces:
    """Of one process, from `start` to `stop`."""

    @classmethod
    def of(cls, settings: Settings, role: Role, metrics: Metrics | None = None) -> Self | None:
        """None when there are to be none. Raises ValueError when they can't be sent."""
        if settings.traces == "off":
            return None
        if not _is_there(EXPORTER):
            raise ValueError(
                "VITRINE_TRACES is 'otlp', and what sends them is not installed; pip install 'vitrine[traces]', or set "
                "VITRINE_TRACES=off"
            )
        for name in PROTOCOL_SETTINGS:
            if os.environ.get(name, PROTOCOL) not in ("", PROTOCOL):
                raise ValueError(f"{name} is {os.environ[name]!r}; traces are sent by {PROTOCOL!r} alone, leave it out")
        return cls(role, metrics)

    def __init__(self, role: Role, metrics: Metrics | None) -> None:
        self.sent = self.lost = 0  # spans, so far
        self._role = role
        self._metrics = metrics
        self._tracer: Tracer | None = None
        self._queue: SpanQueue | None = None

    def start(self) -> None:
        """In the process that is traced, after any fork. Raises ValueError for a setting that can't be read."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider

        from service.span_queue import Seldom, SpanQueue

        logging.getLogger(EXPORTER).addFilter(Seldom())
        self._queue = SpanQueue(OTLPSpanExporter(), self._count)
        own = {
            "service.name": "vitrine",
            "service.version": VERSION,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            "vitrine.role": self._role,
        }
        resource = Resource.create(own).merge(OTELResourceDetector().detect())  # what the user says holds
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._queue)
        self._tracer = provider.get_tracer("vitrine", VERSION)

    def stop(self) -> None:
        """Sends the last spans, or gives them up. Blocks for a moment; no effect the second time."""
        queue, self._queue, self._tracer = self._queue, None, None
        if queue is not None:
            queue.stop(FLUSH_SECONDS)
        if queue is not None and self.lost:
            log.warning("%d spans could not be sent, %d were", self.lost, self.sent)

    def request(self, headers: Mapping[str, str], ids: dict[str, str], attributes: Mapping[str, Any]) -> Trace | None:
        """A trace, or a part of the caller's -> None when it is not sampled; `ids` is told which it is in any case."""
        if self._tracer is None:
            return None
        from opentelemetry.context import Context
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        parent = extract(headers, Context())
        known = {**attributes, "vitrine.request": ids["request"]}
        return self._begin(str(attributes["http.request.method"]), SpanKind.SERVER, known, parent, (), ids)

    def job(self, ids: dict[str, str], created_by: str | None) -> Trace | None:
        """A trace of its own, linked to the request that made the job (its traceparent): that was over long ago."""
        if self._tracer is None:
            return None
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        before = TraceContextTextMapPropagator().extract({"traceparent": created_by or ""}, Context())
        return self._begin("job", SpanKind.INTERNAL, {}, Context(), (before,), ids)

    def _begin(
        self, name: str, kind: "SpanKind", attributes: Mapping[str, Any], parent: "Context",
        linked: "Sequence[Context]", ids: dict[str, str],
    ) -> Trace | None:  # fmt: skip
        from opentelemetry.trace import Link, get_current_span

        assert self._tracer is not None
        places = [get_current_span(context).get_span_context() for context in linked]
        links = [Link(place) for place in places if place.is_valid]
        offset_ns = time.time_ns() - time.monotonic_ns()
        root = self._tracer.start_span(name, parent, kind, attributes, links, time.monotonic_ns() + offset_ns)
        place = root.get_span_context()
        if place.is_valid:
            ids.update(trace_id=f"{place.trace_id:032x}", span_id=f"{place.span_id:016x}")
        return Trace(self._tracer, root, offset_ns) if root.is_recording() else None

    def _count(self, outcome: "Outcome", spans: int) -> None:
        if outcome == "sent":
            self.sent += spans
        else:
            self.lost += spans
        if self._metrics is not None:
            self._metrics.spans(outcome, spans)


def _is_there(module: str) -> bool:
    with suppress(ModuleNotFoundError):
        return find_spec(module) is not None
    return False
