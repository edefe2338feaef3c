"""`/v1/files`: uploads in OpenAI's shape, streamed to disk. The worker checks them, never the event loop."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile
from starlette.types import Message

from service.context import Parts, PartsOf
from service.errors import InvalidRequest, NotFound, TooLarge
from service.jobs.store import File, new_id
from service.schemas import Deleted, FileList, FileObject

router = APIRouter(prefix="/v1/files", tags=["files"])
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["fine-tune"]},
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=UPLOAD_BODY)
async def upload(request: Request, parts: PartsOf) -> FileObject:
    """Multipart upload of `file` with `purpose=fine-tune`: JSONL or CSV rows of text and label."""
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("multipart/form-data"):
        raise InvalidRequest(f"content type is {content_type[:80]!r}; upload as multipart/form-data", "file")
    async with _limited(request, parts).form(max_files=1, max_fields=8) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise InvalidRequest("the form has no part 'file' with a file name; send one", "file")
        if purpose != "fine-tune":
            raise InvalidRequest(f"purpose is {purpose!r}; only 'fine-tune' is supported", "purpose")
        file_id = new_id("file")
        size = await asyncio.to_thread(parts.files.write, file_id, file.file)
        if size == 0:
            parts.files.delete(file_id)
            raise InvalidRequest("the file has 0 bytes; upload at least two labelled rows", "file")
        name = (file.filename or "upload")[:255]
    row = await asyncio.to_thread(parts.jobs.add_file, file_id, name, size, "fine-tune")
    return shape(row)


@router.get("")
async def list_files(
    parts: PartsOf,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> FileList:
    """Uploaded files, newest first by default."""
    files, has_more = await asyncio.to_thread(parts.jobs.list_files, purpose, after, limit, order == "desc")
    data = [shape(file) for file in files]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return FileList(data=data, has_more=has_more, first_id=first, last_id=last)


@router.get("/{file_id}")
async def get_file(file_id: str, parts: PartsOf) -> FileObject:
    """One file and what the check found."""
    return shape(await asyncio.to_thread(parts.jobs.file, file_id))


@router.get("/{file_id}/content", response_class=FileResponse)
async def get_content(file_id: str, parts: PartsOf) -> FileResponse:
    """The bytes as they were uploaded."""
    await asyncio.to_thread(parts.jobs.file, file_id)
    path = parts.files.path(file_id)
    if not path.is_file():
        raise NotFound(f"the bytes of file {file_id!r} are gone; upload it again")
    return FileResponse(path, media_type="application/octet-stream")


@router.delete("/{file_id}")
async def delete_file(file_id: str, parts: PartsOf) -> Deleted:
    """Deletes a file that no job still needs."""
    await asyncio.to_thread(parts.jobs.delete_file, file_id)
    await asyncio.to_thread(parts.files.delete, file_id)
    return Deleted(id=file_id, object="file")


def shape(file: File) -> FileObject:
    problems = [*file.faults, *file.training_faults]
    return FileObject(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
        status=file.status,
        status_details="; ".join(problems) or None,
        num_rows=file.num_rows if file.status == "processed" else None,
        labels=file.labels if file.status == "processed" else None,
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
