"""Spans on their way to a collector: a bounded queue and one thread. Owned by `traces.py`.

OpenTelemetry's own processor counts nothing that it drops and can't be stopped in less time than its exporter takes, so
a collector that hangs would hold a service up. The names of its settings are kept.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

Outcome = Literal["sent", "failed", "dropped"]
SELDOM_SECONDS = 60.0  # between two records of a collector that does not answer
log = logging.getLogger("vitrine.traces")


class SpanQueue(SpanProcessor):
    """Full, it drops what comes: a request never waits for it."""

    def __init__(self, exporter: SpanExporter, count: Callable[[Outcome, int], None]) -> None:
        """`count` hears what became of how many spans, from any thread. Raises ValueError for a setting that is no
        number of its kind."""
        self._exporter = exporter
        self._count = count
        self._max_spans = _number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._at_once = min(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512), self._max_spans)
        self._delay_seconds = _number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000
        self._spans: deque[ReadableSpan] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="vitrine-spans", daemon=True)
        self._thread.start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: spans are of interest when they are over."""

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with self._wake:
            full = self._stopping or len(self._spans) >= self._max_spans
            if not full:
                self._spans.append(span)
                if len(self._spans) == self._at_once:
                    self._wake.notify_all()
        if full:
            self._count("dropped", 1)

    def stop(self, seconds: float) -> None:
        """Sends what waits, for so long and no longer; what is left is dropped."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout=seconds)
        with self._wake:
            left = len(self._spans)
            self._spans.clear()
        if left:
            self._count("dropped", left)
        self._exporter.shutdown()  # one that still waits for its collector waits no longer

    def _loop(self) -> None:
        while True:
            with self._wake:
                if not self._stopping and len(self._spans) < self._at_once:
                    self._wake.wait(self._delay_seconds)
                taken = [self._spans.popleft() for _ in range(min(self._at_once, len(self._spans)))]
                if self._stopping and not taken:
                    return
            if taken:
                self._send(taken)

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        try:
            sent = self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("%d spans were not sent", len(spans))
            sent = False
        self._count("sent" if sent else "failed", len(spans))


class Seldom(logging.Filter):
    """Lets one record a minute through: a collector that is gone is told, not repeated."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -SELDOM_SECONDS

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - its signature
        now = time.monotonic()
        if now - self._last < SELDOM_SECONDS:
            return False
        self._last = now
        return True


def _number(name: str, default: int) -> int:
    given = os.environ.get(name, "").strip() or str(default)
    if not given.isdecimal() or int(given) == 0:
        raise ValueError(f"{name} is {given!r}; it must be a whole number above 0")
    return int(given)
