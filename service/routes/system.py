"""The page, the API document, probes and metrics."""

import asyncio
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.middleware.gzip import GZipMiddleware

from service.context import PartsOf
from service.errors import Unavailable
from service.gate import PAGE_POLICY
from service.pictures.fonts import font_path
from service.routes.answers import forms, refusals

router = APIRouter(tags=["system"])
UI_FOLDER = Path(__file__).parents[1] / "ui" / "static"  # made at set-up from service/ui/src
PLACES = (  # of the page; each is an address of its own, that can be shared and survives a refresh
    "/", "/data", "/data/{file_id}", "/tune", "/tune/{job_id}", "/evaluate", "/evaluate/{job_id}", "/look", "/step",
    "/models", "/models/{model_id:path}", "/serving",
)  # fmt: skip
SWAGGER_FOLDER = Path(fastapi_offline.__file__).parent / "static"
DOCS_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Vitrine API</title><link rel="icon" href="/ui/icon.svg">
<link rel="stylesheet" href="/docs-assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs-assets/swagger-ui-bundle.js"></script><script src="/ui/docs.js"></script></body></html>
"""


def mount_assets(app: FastAPI) -> None:
    """Files of the page and of Swagger UI, all from this machine."""
    app.mount("/ui", GZipMiddleware(StaticFiles(directory=UI_FOLDER, check_dir=False)), name="ui")
    app.mount("/docs-assets", StaticFiles(directory=SWAGGER_FOLDER), name="docs-assets")


async def page() -> FileResponse:
    """One document for every place: its scripts read the address."""
    index = UI_FOLDER / "index.html"
    if not index.is_file():
        raise Unavailable("the page is not bundled; `make setup` does it. The API works without it: see /docs")
    return FileResponse(index, headers={"content-security-policy": PAGE_POLICY})


for place in PLACES:
    router.get(place, include_in_schema=False)(page)


@router.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    return HTMLResponse(DOCS_PAGE)


@router.get("/fonts/cjk.otf", include_in_schema=False)
async def cjk_font() -> FileResponse:
    """The font of our PNGs, for browsers on machines that have no CJK font."""
    return FileResponse(font_path(), media_type="font/otf", headers={"cache-control": "max-age=604800"})


@router.get("/livez", operation_id="is_alive", response_class=PlainTextResponse)
async def livez() -> PlainTextResponse:
    """The process answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", operation_id="is_ready", response_class=PlainTextResponse, responses=refusals(503))
async def readyz(parts: PartsOf) -> PlainTextResponse:
    """The default model has been loaded; one that others have since pushed out of memory comes back when asked for."""
    if not parts.engine.running:
        raise Unavailable("the engine has stopped; the process must be started again")
    if not parts.registry.has_loaded(parts.settings.default_model):
        raise Unavailable(f"model {parts.settings.default_model!r} is not loaded yet; try again in a moment")
    return PlainTextResponse("ready\n")


@router.get(
    "/metrics", operation_id="get_metrics", response_class=Response, responses=forms("Prometheus text", "text/plain")
)
async def metrics(parts: PartsOf) -> Response:
    """Prometheus text, all processes added up."""
    text = await asyncio.to_thread(parts.metrics.render, parts.jobs.figures, parts.settings.home)
    return Response(text, headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})
