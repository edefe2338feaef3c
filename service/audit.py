"""Who changed what, and who was turned away: one line of JSON each in `audit.jsonl`. Used by `gate.py`.

Lines of several processes do not mix: each is one write to a file opened for appending. Keys and texts are not in it.
Of those turned away only some a minute have a line, and the next line counts the others: a flood must not fill the
disk.
"""

import json
import logging
import os
import time
from pathlib import Path

from starlette.types import Scope

from service.auth import TRAIN_PATHS
from service.context import CALLER
from service.keys import Caller

AUDITED = (*TRAIN_PATHS, "/v1/batches", "/login", "/logout")  # asking a model changes nothing
REFUSED = (401, 403)
REFUSED_A_MINUTE = 60  # of one process
log = logging.getLogger("vitrine.audit")


class AuditLog:
    """Appends to one file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._minute, self._refused, self._left_out = 0, 0, 0

    def write(self, request_id: str, scope: Scope, status: int) -> None:
        """A request that wanted to change something, or was refused."""
        if not scope["path"].startswith(AUDITED) and status not in REFUSED:
            return
        if status in REFUSED and self._too_many():
            return
        caller = scope.get(CALLER)
        known = caller if isinstance(caller, Caller) else None
        line = {
            "time": round(time.time(), 3),
            "request": request_id,
            "owner": known.owner if known else None,
            "key": known.key_id if known else None,
            "client": (scope.get("client") or [None])[0],
            "method": scope["method"],
            "path": scope["path"][:500],
            "status": status,
        }
        if self._left_out:
            line["refused_and_left_out"], self._left_out = self._left_out, 0
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError:  # a full disk must not take the service down; the log of the process has the line
            log.exception("the audit log could not be written: %s", json.dumps(line))

    def _too_many(self) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._refused = minute, 0
        self._refused += 1
        if self._refused <= REFUSED_A_MINUTE:
            return False
        self._left_out += 1
        return True
