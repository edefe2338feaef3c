"""The spans of one traced request or job, told by whoever does the work. A context variable carries the trace, so that
no call in between has to; without one (traces are off, or this one is not sampled) nothing is kept.

A span is made when its part is over, from moments that are taken anyway: nothing is done while a model computes, and
the cores make none. `service/traces.py` begins a trace; before that nothing of OpenTelemetry is loaded here.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer


class Trace:
    """Of one request or one turn of a job: its outermost span, which is open, and those below it."""

    def __init__(self, tracer: "Tracer", root: "Span", offset_ns: int) -> None:
        """Moments are of the monotonic clock, `offset_ns` behind the wall's: one offset for all spans, so that they
        nest whatever is done to the latter."""
        self._tracer = tracer
        self._root = root
        self._offset_ns = offset_ns

    @property
    def place(self) -> "SpanContext":
        """Where another trace's link leads."""
        return self._root.get_span_context()

    @property
    def traceparent(self) -> str:
        place = self.place
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-{int(place.trace_flags):02x}"

    def tell(self, **attributes: Any) -> None:
        """More about the whole."""
        self._root.set_attributes(_ours(attributes))

    def add(
        self,
        name: str,
        began: float,
        ended: float,
        attributes: Mapping[str, Any],
        error: str | None = None,
        under: "Span | None" = None,
        links: "Sequence[SpanContext]" = (),
        moments: Mapping[str, float] | None = None,
    ) -> "Span":
        """A part that is over, below `under` or the whole; the name of its error if it failed; `moments` within it."""
        from opentelemetry.trace import Link, set_span_in_context

        span = self._tracer.start_span(
            name,
            context=set_span_in_context(under or self._root),
            attributes=_ours(attributes),
            links=[Link(place) for place in links],
            start_time=self._time_ns(began),
        )
        for moment, when in (moments or {}).items():
            span.add_event(moment, timestamp=self._time_ns(when))
        _mark(span, error)
        span.end(self._time_ns(ended))
        return span

    def end(self, name: str, error: str | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        """The whole is over; these attributes have names of their own."""
        self._root.update_name(name)
        self._root.set_attributes({name: value for name, value in (attributes or {}).items() if value is not None})
        _mark(self._root, error)
        self._root.end(self._time_ns(time.monotonic()))

    def _time_ns(self, moment: float) -> int:
        return int(moment * 1e9) + self._offset_ns


def _ours(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Under names of our own; what is None is not known."""
    return {f"vitrine.{name}": value for name, value in attributes.items() if value is not None}


def _mark(span: "Span", error: str | None) -> None:
    from opentelemetry.trace import StatusCode

    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)


_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current_trace() -> Trace | None:
    return _trace.get()


@contextmanager
def in_trace(trace: Trace | None) -> Iterator[None]:
    """Within, what this task does belongs to the trace."""
    token = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(token)


class Part:
    """What is done within is a span, if it took so many seconds -> its attributes, which may grow. A plain class, not a
    generator: every request passes two of them."""

    __slots__ = ("_at_least", "_attributes", "_began", "_name", "_trace")

    def __init__(self, name: str, at_least: float = 0.0, **attributes: Any) -> None:
        self._trace = _trace.get()
        self._name = name
        self._at_least = at_least
        self._attributes = attributes

    def __enter__(self) -> dict[str, Any]:
        if self._trace is not None:
            self._began = time.monotonic()
        return self._attributes

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._trace is None:
            return
        ended = time.monotonic()
        if ended - self._began >= self._at_least:
            self._trace.add(self._name, self._began, ended, self._attributes, kind.__name__ if kind else None)
