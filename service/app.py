"""Builds one application from settings: the parts, the routes, the lifespan. Used by `main.py` and the tests."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable

from bentoml import server_context
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp

from service import VERSION
from service.aliases import AliasStore, Names
from service.audit import AuditLog
from service.auth import Auth
from service.batches import BatchStore
from service.bulk import BulkWorker
from service.context import Parts
from service.database import Database
from service.direct import Direct
from service.document import openapi_of, operation_id
from service.drain import Drain, before_exit
from service.engine.cores import cores_on
from service.engine.engine import Engine
from service.errors import (
    INTERNAL_BODY,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    TooLarge,
    WrongContentType,
    body_of,
    headers_of,
    status_of,
)
from service.faults import told_of_body, told_of_values
from service.files import FileStorage
from service.formats import Formats
from service.gate import Gate
from service.heap import give_back_for_good
from service.jobs.leftovers import remove_leftovers_for_good
from service.jobs.store import JobStore
from service.jobs.supervisor import Supervisor
from service.keys import KeyStore
from service.metrics import Metrics
from service.model_store import ModelStore
from service.placement import gpu_count, serving_device
from service.registry import Registry
from service.routes import (
    attention,
    batches,
    compare,
    completions,
    drift,
    explain,
    files,
    inference,
    jobs,
    models,
    session,
    system,
    trace,
    webhooks,
)
from service.settings import Settings
from service.traces import Traces
from service.webhooks import TESTS_AT_ONCE, Attempts, WebhookStore

API = (inference, completions, attention, explain, compare, trace, drift, files, jobs, models, batches, webhooks)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PREWARM_SECONDS = 1.0
log = logging.getLogger("vitrine.app")


def create_app(settings: Settings) -> tuple[FastAPI, ASGIApp]:
    """The FastAPI application, and the same behind its gate, which is what a server should run."""
    parts = build_parts(settings)
    app = FastAPI(
        title="Vitrine",
        version=VERSION,
        summary="Run, tune and look inside Transformers",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        lifespan=lambda _: _lifespan(parts),
    )
    app.openapi = lambda: openapi_of(app)  # type: ignore[method-assign] # FastAPI's own way
    app.state.parts = parts
    for module in API:
        app.include_router(module.router)
    app.include_router(models.aliases_router)
    app.include_router(session.router)
    app.include_router(system.router)
    system.mount_assets(app)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(ValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    for module in (*API, session, system):
        for route in module.router.routes:
            for method in sorted(route.methods or ()) if isinstance(route, APIRoute) else ():
                parts.metrics.preset_route(route.path, method)
    auth = Auth(parts.keys, settings.requests_per_minute / settings.api_workers)
    app.state.auth = auth
    return app, Gate(Direct(app, parts, inference.ROUTES), parts, auth, AuditLog(settings.audit_log))


def build_parts(settings: Settings) -> Parts:
    settings.home.mkdir(parents=True, exist_ok=True)
    metrics = Metrics()
    device = serving_device(settings.device, server_context.worker_index or 1, gpu_count())
    formats = Formats.of(settings, device)
    store = ModelStore.of(settings)
    if settings.bento_models is not None:
        store.take_from(settings.bento_models)
    registry = Registry(
        store,
        metrics,
        device,
        formats,
        settings.max_resident_models,
        settings.max_resident_bytes,
        settings.gpu_graphs == "auto",
        settings.cpu_programs == "auto",
    )
    engine = Engine(
        metrics,
        settings.max_queue_tokens,
        settings.max_batch_tokens,
        settings.max_attention_queue,
        settings.max_writing_queue,
        settings.request_timeout_seconds,
        cores_on(device),
    )
    database = Database(settings.database_url)
    return Parts(
        settings, metrics, registry, engine, database, JobStore(database), FileStorage.of(settings),
        KeyStore(database), Names(AliasStore(database)), WebhookStore(database), Attempts(TESTS_AT_ONCE),
        BatchStore(database), Drain(), Traces.of(settings, "api", metrics),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _lifespan(parts: Parts) -> AsyncIterator[None]:
    if parts.settings.first_key_owner:
        key = await asyncio.to_thread(parts.keys.create_first, parts.settings.first_key_owner)
        if key is not None:
            print(f"\n  API key of {parts.settings.first_key_owner}, shown this once: {key}\n", flush=True)
    parts.engine.start()
    if parts.traces is not None:
        parts.traces.start()
    settings = parts.settings
    supervisor = Supervisor(settings.home.absolute(), settings.grace_seconds) if settings.run_worker else None
    if supervisor is not None:
        supervisor.start()
    ever = [_prewarm(parts), BulkWorker(parts, inference.ROUTES).run(), give_back_for_good()]
    if supervisor is None:  # else it is an errand of the worker
        ever.append(remove_leftovers_for_good(parts.files, parts.jobs))
    beside = [asyncio.create_task(task) for task in ever]

    async def stop_beside() -> None:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        if supervisor is not None:
            await asyncio.to_thread(supervisor.stop)

    async def flush() -> None:
        if parts.traces is not None:
            await asyncio.to_thread(parts.traces.stop)

    async def drain(end: Callable[[], None]) -> None:
        parts.drain.begun = True
        work = [asyncio.create_task(stop_beside()), asyncio.create_task(parts.drain.answered())]
        try:
            await asyncio.wait(work, timeout=settings.grace_seconds)
            stopped = asyncio.create_task(asyncio.to_thread(parts.engine.stop))  # which answers who waits in it
            await parts.drain.cut()
            await stopped
            await flush()
        finally:
            end()

    leaving: list[asyncio.Task[None]] = []
    try:
        with before_exit(lambda end: leaving.append(asyncio.create_task(drain(end)))):
            yield
    finally:
        await stop_beside()
        await asyncio.to_thread(parts.engine.stop)
        await parts.registry.stop()
        await asyncio.to_thread(parts.webhook_tests.close)
        await flush()
        parts.database.close()


async def _prewarm(parts: Parts) -> None:
    """Keeps memory in step with the store: the default model at start, then each newly tuned one, no deleted one."""
    seen: set[str] = set()
    first, told, settled = True, False, False
    while True:
        try:
            names = [parts.settings.default_model] if first else []
            room = parts.settings.max_resident_models - 1  # beside the default model
            done = (await asyncio.to_thread(parts.jobs.list_jobs, None, room))[0] if room else []
            fresh = [job.fine_tuned_model for job in done if job.fine_tuned_model and job.fine_tuned_model not in seen]
            for name in [*names, *reversed(fresh)]:
                seen.add(name)
                await parts.registry.get(name)
            first = False
            await parts.registry.drop_deleted()
        except NotFound as error:
            if first and not told:
                told = True
                log.warning("%s; run 'vitrine setup' to fetch the default model", error)
        except Exception:
            log.exception("loading a model ahead of its first request failed")
        if not settled:
            settled = True
            _settle()
        await asyncio.sleep(PREWARM_SECONDS)


def _settle() -> None:
    """What is here after the start stays: Python's collector need not look at it again. To go through all that was
    imported takes it 0.3 s, in which nothing is answered. Not outside of BentoML, where an application may end before
    its process."""
    if server_context.worker_index is not None:
        gc.collect()
        gc.freeze()


async def _service_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return JSONResponse(body_of(error), status_of(error), headers_of(error))


async def _internal_error(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the gate logs it
    return JSONResponse(INTERNAL_BODY, 500)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    """Pydantic's findings as one 400."""
    assert isinstance(error, RequestValidationError | ValidationError)
    kind = request.headers.get("content-type", "")
    unread = any(item["loc"] == ("body",) and isinstance(item.get("input"), bytes) for item in error.errors())
    if unread:  # FastAPI reads no other body than JSON
        return await _service_error(
            request, WrongContentType(f"content type is {kind[:80]!r}; send JSON as application/json")
        )
    return await _service_error(request, told_of_values(error))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own errors (no such route, wrong method, broken form) in the envelope."""
    assert isinstance(error, HTTPException)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ServiceError):
        return await _service_error(request, cause)
    if isinstance(cause, RecursionError | ValueError):
        return await _service_error(request, told_of_body(cause))
    known: dict[int, ServiceError] = {
        404: NotFound(f"{request.method} {request.url.path} does not exist; see /docs for the routes"),
        405: MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}; see /docs for the methods"),
        413: TooLarge(str(error.detail)),
    }
    answer = await _service_error(request, known.get(error.status_code, InvalidRequest(str(error.detail))))
    if error.status_code == 405:
        answer.headers["allow"] = _allowed(request)
    return answer


def _allowed(request: Request) -> str:
    """The methods of every route at this path; Starlette names those of the first."""
    routes = request.app.routes
    found = [
        method
        for method in METHODS
        for asked in ["GET" if method == "HEAD" else method]  # the gate answers HEAD by GET
        if any(route.matches({**request.scope, "method": asked})[0] == Match.FULL for route in routes)
    ]
    return ", ".join(found)
