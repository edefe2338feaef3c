"""`/v1/fine_tuning/jobs`: submit, follow and cancel fine-tuning jobs, in OpenAI's shape."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.context import PartsOf
from service.errors import InvalidRequest
from service.jobs.store import JobStore, new_id, request_key
from service.jobs.tables import Event, Job
from service.schemas import (
    CreateJobRequest,
    EventList,
    EventObject,
    Hyperparameters,
    JobError,
    JobList,
    JobObject,
)

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])
OWN_HYPERPARAMETERS = (
    "task",
    "adapter",
    "class_weights",
    "early_stopping",
    "max_length",
    "training_method",
)  # beside OpenAI's
RETRY_WINDOW_SECONDS = 600.0  # a client's automatic retry of a create comes within minutes


@router.post("")
async def create_job(body: CreateJobRequest, request: Request, parts: PartsOf) -> JobObject:
    """Queues a job; it survives any restart from here on."""
    card = await asyncio.to_thread(parts.registry.store.find, body.model)
    if card.adapter or card.config.architecture == "encoder_decoder":
        what = f"an adapter over {card.base_model!r}" if card.adapter else "an encoder-decoder"
        raise InvalidRequest(f"model {body.model!r} is {what}; tune a base encoder or decoder instead", "model")
    job = Job(
        id=new_id("ftjob"),
        model=card.id,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=body.seed if body.seed is not None else 0,
        hyperparameters=_hyperparameters(body).model_dump() | body.model_dump(include=set(OWN_HYPERPARAMETERS)),
        meta=body.metadata or {},
        priority=body.priority,
        request_key=request_key(body.model_dump(mode="json")),
    )
    is_retry = request.headers.get("x-stainless-retry-count", "0") not in ("0", "")
    window = RETRY_WINDOW_SECONDS if is_retry else None
    job = await asyncio.to_thread(parts.jobs.create_job, job, parts.settings.max_queued_jobs, window)
    return await asyncio.to_thread(shape, job, parts.jobs)


@router.get("")
async def list_jobs(
    parts: PartsOf, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> JobList:
    """Jobs, newest first."""
    jobs, has_more = await asyncio.to_thread(parts.jobs.list_jobs, after, limit)
    data = await asyncio.to_thread(lambda: [shape(job, parts.jobs) for job in jobs])
    return JobList(data=data, has_more=has_more)


@router.get("/{job_id}")
async def get_job(job_id: str, parts: PartsOf) -> JobObject:
    """One job as it stands."""
    return await asyncio.to_thread(lambda: shape(parts.jobs.job(job_id), parts.jobs))


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, parts: PartsOf) -> JobObject:
    """Cancels a job that has not ended; a running one stops at its next progress report."""
    return await asyncio.to_thread(lambda: shape(parts.jobs.cancel_job(job_id), parts.jobs))


@router.get("/{job_id}/events")
async def list_events(
    job_id: str, parts: PartsOf, after: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 20
) -> EventList:
    """What happened to a job, newest first; metrics events carry the learning curve."""
    events, has_more = await asyncio.to_thread(parts.jobs.list_events, job_id, after, limit)
    return EventList(data=[_shape_event(event) for event in events], has_more=has_more)


def shape(job: Job, jobs: JobStore) -> JobObject:
    settled = {name: value for name, value in job.hyperparameters.items() if name != "reasons"}
    return JobObject(
        id=job.id,
        created_at=int(job.created_at),
        finished_at=int(job.finished_at) if job.finished_at else None,
        estimated_finish=_estimated_finish(job),
        model=job.model,
        fine_tuned_model=job.fine_tuned_model,
        user_provided_suffix=job.suffix,
        status=job.status,
        error=JobError(**job.error) if job.error else None,
        hyperparameters=settled,
        method={"type": "supervised", "supervised": {"hyperparameters": settled}},
        reasons=job.hyperparameters.get("reasons", {}),
        seed=job.seed,
        training_file=job.training_file,
        validation_file=job.validation_file,
        result_files=job.result_files or [],
        trained_tokens=job.trained_tokens,
        metadata=job.meta,
        task=job.hyperparameters.get("task"),
        priority=job.priority,
        queue_position=jobs.queue_position(job),
        progress=job.progress,
        metrics=job.metrics,
    )


def _estimated_finish(job: Job) -> int | None:
    """From the tokens trained so far and the present speed; None before the first progress report."""
    progress = job.progress or {}
    speed, step = progress.get("tokens_per_second"), progress.get("step")
    if job.status != "running" or not speed or not step:
        return None
    tokens_left = progress["tokens_seen"] / step * (progress["total_steps"] - step)
    return int(time.time() + tokens_left / speed)


def _shape_event(event: Event) -> EventObject:
    return EventObject(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        type=event.type,
        data=event.data,
    )


def _hyperparameters(body: CreateJobRequest) -> Hyperparameters:
    """From `method`, or from the older top-level field; both at once is refused."""
    if body.method is None:
        return body.hyperparameters or Hyperparameters()
    if body.method.type != "supervised":
        raise InvalidRequest(f"method.type is {body.method.type!r}; only 'supervised' is supported", "method.type")
    if body.hyperparameters is not None and body.method.supervised is not None:
        raise InvalidRequest("hyperparameters stand both in method and beside it; keep one of them", "hyperparameters")
    return (
        body.method.supervised.hyperparameters if body.method.supervised else body.hyperparameters or Hyperparameters()
    )
