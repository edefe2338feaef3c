"""Schemas of `routes/batches.py`: bulk prediction, in OpenAI's shape."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from service.schemas.base import Request, Time, examples
from service.schemas.jobs import Metadata


class OutputExpiresAfter(Request):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3_600, le=2_592_000)]


class CreateBatchRequest(Request):
    model_config = examples(
        {"input_file_id": "file-4f1c0a9b2d3e5f60718293a4", "endpoint": "/v1/classify", "completion_window": "24h"},
    )

    input_file_id: str
    endpoint: Literal["/v1/classify", "/v1/embeddings", "/v1/tag", "/v1/fill-mask"]
    completion_window: Literal["24h"]
    metadata: Metadata | None = Field(default=None, max_length=16)
    output_expires_after: OutputExpiresAfter | None = None


class BatchErrorItem(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None = None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchErrorItem]


class BatchCounts(BaseModel):
    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: Time
    in_progress_at: Time | None
    expires_at: Time
    finalizing_at: Time | None
    completed_at: Time | None
    failed_at: Time | None
    expired_at: Time | None
    cancelling_at: Time | None
    cancelled_at: Time | None
    request_counts: BatchCounts
    metadata: dict[str, str] | None
    tokens: int = Field(description="read so far")


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    has_more: bool
    first_id: str | None
    last_id: str | None
