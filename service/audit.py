"""Who changed what, and who was turned away: one line of JSON each in `audit.jsonl`. Used by `gate.py`.

Lines of several processes do not mix: each is one write to a file opened for appending. Keys and texts are not in it.
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
log = logging.getLogger("vitrine.audit")


class AuditLog:
    """Appends to one file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, request_id: str, scope: Scope, status: int) -> None:
        """A request that wanted to change something, or was refused."""
        if not scope["path"].startswith(AUDITED) and status not in REFUSED:
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
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError:  # a full disk must not take the service down; the log of the process has the line
            log.exception("the audit log could not be written: %s", json.dumps(line))
