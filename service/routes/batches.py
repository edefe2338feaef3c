"""`/v1/batches`: bulk prediction from a file of requests, in OpenAI's shape."""

import asyncio

from fastapi import APIRouter

from service.context import CallerOf, PartsOf
from service.routes.answers import refusals
from service.routes.names import After, BatchId, Limit
from service.schemas.batches import BatchCounts, BatchErrorItem, BatchErrors, BatchList, BatchObject, CreateBatchRequest
from service.tables import Batch

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("", responses=refusals(404))
async def create_batch(body: CreateBatchRequest, parts: PartsOf, caller: CallerOf) -> BatchObject:
    """Queues the requests of a file (purpose `batch`); they are asked while nobody else asks."""
    lives = float(body.output_expires_after.seconds) if body.output_expires_after else None
    create = parts.batches.create
    file = body.input_file_id
    batch = await asyncio.to_thread(create, caller.owner, body.endpoint, file, body.metadata or {}, lives)
    return shape(batch)


@router.get("", responses=refusals(404))
async def list_batches(
    parts: PartsOf,
    caller: CallerOf,
    after: After = None,
    limit: Limit = 20,
) -> BatchList:
    """Batches, newest first."""
    found, has_more = await asyncio.to_thread(parts.batches.batches, caller.owner, after, limit)
    first, last = (found[0].id, found[-1].id) if found else (None, None)
    return BatchList(data=[shape(batch) for batch in found], has_more=has_more, first_id=first, last_id=last)


@router.get("/{batch_id}", responses=refusals(404))
async def get_batch(batch_id: BatchId, parts: PartsOf, caller: CallerOf) -> BatchObject:
    """One batch as it stands."""
    return shape(await asyncio.to_thread(parts.batches.get, caller.owner, batch_id))


@router.post("/{batch_id}/cancel", responses=refusals(404, 409))
async def cancel_batch(batch_id: BatchId, parts: PartsOf, caller: CallerOf) -> BatchObject:
    """Asks no more of it; what is answered stands in its files."""
    return shape(await asyncio.to_thread(parts.batches.cancel, caller.owner, batch_id))


def shape(batch: Batch) -> BatchObject:
    def at(status: str) -> int | None:
        return int(batch.times[status]) if status in batch.times else None

    return BatchObject(
        id=batch.id,
        endpoint=batch.endpoint,
        errors=BatchErrors(data=[BatchErrorItem(**error) for error in batch.errors]) if batch.errors else None,
        input_file_id=batch.input_file,
        status=batch.status,
        output_file_id=batch.output_file,
        error_file_id=batch.error_file,
        created_at=int(batch.created_at),
        in_progress_at=at("in_progress"),
        expires_at=int(batch.expires_at),
        finalizing_at=at("finalizing"),
        completed_at=at("completed"),
        failed_at=at("failed"),
        expired_at=at("expired"),
        cancelling_at=at("cancelling"),
        cancelled_at=at("cancelled"),
        request_counts=BatchCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
        metadata=batch.meta or None,
        tokens=batch.tokens,
    )
