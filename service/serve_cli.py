"""`vitrine serve`: looks whether the service may be reached as asked, then becomes BentoML's server."""

import errno
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from service.database import opened
from service.errors import InvalidRequest
from service.keys import KeyStore
from service.settings import Settings
from service.traces import Traces

UNREAD_SECONDS = 3  # after a drain, for clients that do not take their answers
IN_USE_SECONDS = 15.0  # a port may be let go in; longer than an API process without its parent takes (`main.py`)
IN_USE_POLL_SECONDS = 0.2
LAST_PORT = 65_535
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_commands(commands: Any, settings: Settings) -> None:
    serve = commands.add_parser("serve", help="start the service (and its job worker)")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=3000)
    serve.set_defaults(run=lambda arguments: run_serve(settings, arguments.host, arguments.port))


def check_exposure(settings: Settings, host: str) -> None:
    """Without keys everyone who reaches the port may do everything, so it must not be reached from outside. Raises
    InvalidRequest when it would be, unless a first key is to be made at start."""
    with opened(settings.database_url) as database:
        closed = KeyStore(database).exist()
    if closed or settings.first_key_owner:
        return
    if host in LOOPBACK:
        print("  no API keys: the service answers this machine alone; `vitrine keys create` makes one", flush=True)
        return
    raise InvalidRequest(
        f"--host {host} would let everyone in: there are no API keys; make one by `vitrine keys create --owner NAME`, "
        "set VITRINE_FIRST_KEY_OWNER=NAME to have one made and shown at the start, or serve 127.0.0.1"
    )


def check_port(host: str, port: int) -> None:
    """Raises InvalidRequest for a port that can't be listened at, which BentoML says in a traceback, or not at all. One
    that is in use may be let go in a moment: of a service that was killed, the processes that answer end by themselves
    soon after."""
    if not 1 <= port <= LAST_PORT:
        raise InvalidRequest(f"--port is {port}; choose from 1 to {LAST_PORT}")
    refused = _refusal(host, port)
    if refused is not None and refused.errno == errno.EADDRINUSE:
        print(f"  port {port} is in use; waiting up to {IN_USE_SECONDS:g} s for what has it to end", flush=True)
        end = time.monotonic() + IN_USE_SECONDS
        while refused is not None and refused.errno == errno.EADDRINUSE and time.monotonic() < end:
            time.sleep(IN_USE_POLL_SECONDS)
            refused = _refusal(host, port)
    if refused is None:
        return
    reason = refused.strerror if isinstance(refused, socket.gaierror) else os.strerror(refused.errno or 0)
    raise InvalidRequest(
        f"port {port} of {host} can't be served ({reason}); choose another by --port or --host, or end what has it"
    ) from refused


def _refusal(host: str, port: int) -> OSError | None:
    """Why nobody can listen there, if nobody can."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return error
    return None


def run_serve(settings: Settings, host: str, port: int) -> None:
    """Becomes `bentoml serve`, with BentoML's state inside our home folder."""
    check_exposure(settings, host)
    check_port(host, port)
    Traces.of(settings, "api")  # told here, in a line, if they can't be sent
    root = Path(__file__).parents[1]
    os.environ.setdefault("BENTOML_HOME", str(settings.bentoml_home))
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see DECISIONS.md
    os.environ["VITRINE_HOME"] = str(settings.home.absolute())
    print(f"\n  Vitrine: http://localhost:{port}/      API: http://localhost:{port}/docs\n", flush=True)
    command = [sys.executable, "-m", "bentoml", "serve", "service.main:Vitrine"]
    command += ["--working-dir", str(root), "--host", host, "--port", str(port)]
    command += ["--timeout-graceful-shutdown", str(UNREAD_SECONDS)]
    os.execv(sys.executable, command)
