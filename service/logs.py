"""Logs as lines of JSON, by VITRINE_LOG_FORMAT: each record with the request or job it is about, and a line for each
request. Used by `main.py`, `gate.py` and the worker.

No line has a header, a query, a body or an address as the client wrote it: keys and texts can't come in.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

Format = Literal["text", "json"]
FIELDS = "vitrine_fields"  # of a record: more for its line
QUIET = ("/livez", "/readyz", "/metrics", "/ui", "/docs-assets")  # asked for all the time, or parts of a page
_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)
requests_log = logging.getLogger("vitrine.requests")


@contextmanager
def about(**ids: str) -> Iterator[dict[str, str]]:
    """Within, each record is about these (`request`, `job`); what is put into the dictionary, too."""
    known = {**(_about.get() or {}), **ids}
    token = _about.set(known)
    try:
        yield known
    finally:
        _about.reset(token)


def now_about(**ids: str) -> None:
    """Adds to what the records around are about."""
    known = _about.get()
    if known is not None:
        known.update(ids)


class JsonLines(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(_about.get() or {}),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logs(wanted: Format) -> None:
    """Text is what the frame has set up. JSON takes over every handler there is, and adds the requests."""
    if wanted == "text":
        return
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    for logger in loggers:
        for handler in logger.handlers:
            handler.setFormatter(JsonLines())
    requests_log.setLevel(logging.INFO)


def log_request(path: str, route: str, method: str, status: int, seconds: float, **fields: Any) -> None:
    """A line, but for what is asked for all the time; the path is looked at and not told. What is None is left out."""
    if not requests_log.isEnabledFor(logging.INFO) or path.startswith(QUIET):
        return
    known = {"route": route, "method": method, "status": status, "ms": round(seconds * 1000, 1), **fields}
    known = {name: value for name, value in known.items() if value is not None}
    requests_log.info("%s %s %d", method, route, status, extra={FIELDS: known})
