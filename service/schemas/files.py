"""Schemas of `routes/files.py`: uploads and what jobs leave."""

from typing import Literal

from pydantic import BaseModel

from service.schemas.base import Time


class FileObject(BaseModel):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: Time
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    warnings: list[str] | None
    expires_at: Time | None = None
    num_rows: int | None
    labels: list[str] | None
    task: str | None


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None
