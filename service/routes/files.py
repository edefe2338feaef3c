"""`/v1/files`: uploads in OpenAI's shape, streamed to disk. The worker checks them, never the event loop."""

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.datastructures import FormData, UploadFile
from starlette.types import Message

from service.context import CallerOf, JobsOf, Parts, PartsOf
from service.errors import Conflict, InvalidRequest, NotFound, TooLarge, WrongContentType
from service.ids import new_id
from service.report.data.page import report_page
from service.report.data.picture import report_png
from service.routes.answers import forms, refusals
from service.routes.forms import accepted
from service.routes.names import After, FileId
from service.schemas.base import Deleted
from service.schemas.files import FileList, FileObject
from service.tables import File

router = APIRouter(prefix="/v1/files", tags=["files"])
ReportFormat = Literal["json", "html", "png"]
REPORT_RETRY_SECONDS = 1
LIVES_SECONDS = range(3_600, 2_592_001)  # an hour to thirty days
REPORT_RESPONSE = forms(
    "JSON; a page or a picture by `format`, or when Accept asks for text/html or image/png", "text/html", "image/png"
)
FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "example": {"file": '{"text": "A good film", "label": "positive"}\n', "purpose": "fine-tune"},
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["fine-tune", "batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3_600, "maximum": 2_592_000},
                    },
                },
            }
        },
    }
}


@router.post("", operation_id="upload_file", openapi_extra=UPLOAD_BODY)
async def upload(request: Request, parts: PartsOf, jobs: JobsOf) -> FileObject:
    """Multipart upload of `file`: rows to train on as JSONL, CSV or Parquet (`purpose=fine-tune`), or requests for bulk
    prediction, one JSON object a line (`purpose=batch`)."""
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        raise WrongContentType(f"content type is {content_type[:80]!r}; upload as multipart/form-data", "file")
    async with _limited(request, parts).form(max_files=1, max_fields=8) as form:
        if unknown := sorted(form.keys() - FIELDS):
            raise InvalidRequest(f"the form has a field {unknown[0][:80]!r}; known are {', '.join(FIELDS)}", "file")
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise InvalidRequest("the form has no part 'file' with a file name; send one", "file")
        if purpose not in ("fine-tune", "batch"):
            raise InvalidRequest(f"purpose is {purpose!r}; choose 'fine-tune' or 'batch'", "purpose")
        lives_seconds = _lives_seconds(form)
        file_id = new_id("file")
        size = await asyncio.to_thread(parts.files.write, file_id, file.file)
        if size == 0:
            await asyncio.to_thread(parts.files.delete, file_id)
            raise InvalidRequest("the file has 0 bytes; upload at least two labelled rows", "file")
        name = plain_name(file.filename or "")
    most_bytes = parts.settings.max_owner_bytes
    try:
        row = await asyncio.to_thread(jobs.add_file, file_id, name, size, purpose, lives_seconds, most_bytes)
    except TooLarge:
        await asyncio.to_thread(parts.files.delete, file_id)
        raise
    return shape(row)


def plain_name(given: str) -> str:
    """A client's file name without folders and without what cannot be seen: others may save the file under it."""
    last = re.split(r"[/\\]", given)[-1]
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in last)[:255]
    return "upload" if shown in ("", ".", "..") else shown


def _lives_seconds(form: FormData) -> float | None:
    """Of `expires_after[anchor]` and `expires_after[seconds]`; None when the file stays."""
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequest(f"expires_after[anchor] is {anchor!r}; only 'created_at' is known", "expires_after")
    if not isinstance(seconds, str) or not re.fullmatch(r"[0-9]{1,9}", seconds) or int(seconds) not in LIVES_SECONDS:
        least, most = LIVES_SECONDS[0], LIVES_SECONDS[-1]
        message = f"expires_after[seconds] is {seconds!r}; choose a whole number from {least} to {most}"
        raise InvalidRequest(message, "expires_after")
    return float(seconds)


@router.get("", responses=refusals(404))
async def list_files(
    jobs: JobsOf,
    purpose: Annotated[str | None, Query(description="only files of this purpose")] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="files of a page")] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query(description="by the time of upload")] = "desc",
) -> FileList:
    """Uploaded files, newest first by default."""
    files, has_more = await asyncio.to_thread(jobs.list_files, purpose, after, limit, order == "desc")
    data = [shape(file) for file in files]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return FileList(data=data, has_more=has_more, first_id=first, last_id=last)


@router.get("/{file_id}", responses=refusals(404))
async def get_file(file_id: FileId, jobs: JobsOf) -> FileObject:
    """One file and what the check found."""
    return shape(await asyncio.to_thread(jobs.file, file_id))


@router.get(
    "/{file_id}/content",
    operation_id="get_file_content",
    response_class=Response,
    responses=forms("the bytes", "application/octet-stream") | refusals(404, 416),
)
async def get_content(file_id: FileId, parts: PartsOf, jobs: JobsOf) -> FileResponse:
    """The bytes as they were uploaded, or as a job left them."""
    file = await asyncio.to_thread(jobs.file, file_id)
    try:
        path = await asyncio.to_thread(parts.files.path, file_id)
    except FileNotFoundError:
        raise NotFound(f"the bytes of file {file_id!r} are gone; upload it again") from None
    return FileResponse(path, media_type="application/octet-stream", filename=file.filename)


@router.get(
    "/{file_id}/report",
    operation_id="get_file_report",
    response_model=dict[str, Any],
    responses=REPORT_RESPONSE | refusals(404, 409),
)
async def get_report(
    file_id: FileId,
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
    jobs: JobsOf,
    model: Annotated[str | None, Query(description="whose tokenizer measures; default: the default model")] = None,
    format: Annotated[ReportFormat | None, Query(description="default: by the Accept header, else json")] = None,
) -> Response:
    """What is in a file: labels, lengths in tokens, vocabulary, copies, leaks, samples, faults and warnings.

    The job worker measures it; until then the answer is 409 with the code `processing` and `Retry-After`.
    """
    name = model or parts.settings.default_model
    file = await asyncio.to_thread(jobs.file, file_id)
    if file.purpose != "fine-tune":
        raise InvalidRequest(f"file {file_id} has the purpose {file.purpose!r}; only training data has a report")
    await asyncio.to_thread(parts.registry.store.find, name, caller.owner)
    found = await asyncio.to_thread(jobs.report, file_id, name)
    if found.error is not None:
        raise InvalidRequest(f"the report on {file_id} under {name!r} failed: {found.error}", "model")
    if found.report is None:
        message = f"the report on {file_id} under {name!r} is being made; ask again in a moment"
        raise Conflict(message, code="processing", retry_after_seconds=REPORT_RETRY_SECONDS)
    return await asyncio.to_thread(_draw, found.report, format or _accepted(request.headers.get("accept", "")))


def _draw(report: dict[str, Any], form: ReportFormat) -> Response:
    headers = {"vary": "accept"}
    if form == "png":
        return Response(report_png(report), media_type="image/png", headers=headers)
    if form == "html":
        page = report_page(report)
        policy = f"{page.policy}; frame-ancestors 'none'"
        return Response(page.html, media_type="text/html", headers=headers | {"content-security-policy": policy})
    return JSONResponse(report, headers=headers)


def _accepted(header: str) -> ReportFormat:
    """The one of our forms that the header wants most, the first of equals; browsers name HTML before pictures."""
    forms: dict[str, ReportFormat] = {"application/json": "json", "text/html": "html", "image/png": "png"}
    named = {kind: quality for kind, quality in accepted(header).items() if kind in forms and quality > 0}
    return forms[max(named, key=named.__getitem__)] if named else "json"


@router.delete("/{file_id}", responses=refusals(404, 409))
async def delete_file(file_id: FileId, parts: PartsOf, jobs: JobsOf) -> Deleted:
    """Deletes a file that no job still needs."""
    await asyncio.to_thread(jobs.delete_file, file_id)
    await asyncio.to_thread(parts.files.delete, file_id)
    return Deleted(id=file_id, object="file")


def shape(file: File) -> FileObject:
    checked = file.status != "uploaded"
    problems = [*file.faults, *file.training_faults]
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
        status=file.status,
        status_details="; ".join(problems) or None,
        expires_at=int(file.expires_at) if file.expires_at else None,
        warnings=file.warnings if checked else None,
        num_rows=file.num_rows if file.status == "processed" else None,
        labels=file.labels if file.status == "processed" else None,
        task=file.task,
    )


def _limited(request: Request, parts: Parts) -> Request:
    """The request with its body counted: a chunked upload has no length to check beforehand."""
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > parts.settings.max_file_bytes + 65_536:
            raise TooLarge(f"the upload exceeds {parts.settings.max_file_bytes} bytes; split the file", "file")
        return message

    return Request(request.scope, receive)
