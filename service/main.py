"""The BentoML service: our application behind its gate, and nothing else. Loaded by `bentoml serve` and `build`."""

import atexit
import os
import signal
import sys
import threading
import time
from typing import Any

from bentoml import Service, on_startup, server_context
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from service.collector import loading
from service.logs import configure_logs
from service.settings import read_settings

PARENT_POLL_SECONDS = 0.5
SHUTDOWN_SECONDS = 10.0
FAIL = signal.SIGUSR1  # which BentoML has no use for

settings = read_settings()
configure_logs(settings.log_format)


def build() -> tuple[FastAPI, ASGIApp]:
    """The application and its gate, in an API process. BentoML's own process imports this module too, to start those;
    it answers nothing, and would hold 300 MB of torch."""
    if server_context.worker_index is None:
        fail_when_told()
        empty = FastAPI()
        return empty, empty
    with loading():
        from service.app import create_app
        from service.connections import Connections, Limits

    # BentoML makes the server's configuration by itself, with the protocol "auto"; the table takes a factory, too.
    HTTP_PROTOCOLS["auto"] = Connections(Limits.of(settings)).protocol  # type: ignore[assignment]
    try:
        return create_app(settings)
    except ValueError as error:  # of the settings: BentoML would start this process again and again
        print(f"vitrine: {error}", file=sys.stderr, flush=True)  # before it is ended, which may cut a traceback
        os.kill(os.getppid(), FAIL)
        raise


def fail_when_told() -> None:
    """In BentoML's own process: an API process that can never start ends it with status 1, where SIGTERM means 0."""

    def fail(*_: object) -> None:
        atexit.register(os._exit, 1)  # BentoML has ended all by then
        os.kill(os.getpid(), signal.SIGTERM)

    if threading.current_thread() is threading.main_thread():
        signal.signal(FAIL, fail)


application, gate = build()


class Front:
    """Hands every HTTP request to our application, BentoML's own paths included, so that one contract holds."""

    def __init__(self, app: ASGIApp) -> None:
        self.bentoml = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (gate if scope["type"] == "http" else self.bentoml)(scope, receive, send)


class FrontedService(Service):  # type: ignore[misc]
    """A BentoML service whose only middleware is ours.

    BentoML's timeout (it cannot be switched off, only raised) answers with a body of its own and cuts uploads of
    more than 60 s; its metrics, tracing and access log repeat what the gate does and cost most of the throughput.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        app = super().to_asgi(is_main)
        app.user_middleware = [middleware for middleware in app.user_middleware if middleware.cls is Front]
        return app  # type: ignore[no-any-return]


class Frame:
    """What BentoML makes an instance of; the application carries everything, its lifespan included."""

    @on_startup  # type: ignore[untyped-decorator]
    def watch_parent(self) -> None:
        """Ends this API process when BentoML's own process was killed: an orphan would hold the port."""
        threading.Thread(target=_end_with, args=(os.getppid(),), name="vitrine-parent", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SHUTDOWN_SECONDS)
    os._exit(1)


config: dict[str, Any] = {"workers": settings.api_workers, "metrics": {"enabled": False}}
Vitrine = FrontedService(name="vitrine", config=config, inner=Frame)
Vitrine.mount_asgi_app(application)  # BentoML runs its lifespan and lists its routes
Vitrine.add_asgi_middleware(Front)
