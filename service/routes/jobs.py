"""`/v1/fine_tuning/jobs`: submit, follow, pause and cancel fine-tuning jobs, in OpenAI's shape."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from service.context import CallerOf, JobsOf, PartsOf
from service.drain import Drain
from service.engine.spans import current_trace
from service.errors import InvalidRequest
from service.ids import new_id
from service.jobs.room import check_room, machine_memory
from service.jobs.states import WAITING_STATES
from service.jobs.store import JobStore, refuse_unlike, request_key
from service.logs import now_about
from service.routes.answers import forms, refusals
from service.routes.names import After, JobId, Limit, LongLimit
from service.schemas.jobs import (
    CheckpointList,
    CheckpointObject,
    CreateJobRequest,
    EventList,
    EventObject,
    Hyperparameters,
    JobError,
    JobList,
    JobObject,
)
from service.tables import Checkpoint, Event, Job

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])
OWN_HYPERPARAMETERS = {  # beside OpenAI's
    "task", "adapter", "class_weights", "early_stopping", "max_length", "training_method", "metric", "evaluation_steps",
    "first_evaluation", "dropout", "average_share", "lora_rank",
}  # fmt: skip
RETRY_WINDOW_SECONDS = 600.0  # a client's automatic retry of a create comes within minutes
STREAM_POLL_SECONDS = 0.25
STREAM_COMMENT_SECONDS = 15.0  # of silence, so that proxies keep the connection and a client that left is noticed
STREAM_PAGE = 200
EVENTS_RESPONSE = forms(
    "a page, newest first; as a stream (`stream=true`, or Accept: text/event-stream) every event, oldest first, until "
    "the job has ended, from the one after `Last-Event-ID`",
    "text/event-stream",
) | {204: {"description": "a stream asked for again after its last event: a browser then stops asking"}}


@router.post("", responses=refusals(404))
async def create_job(
    body: CreateJobRequest, request: Request, parts: PartsOf, caller: CallerOf, jobs: JobsOf
) -> JobObject:
    """Queues a job; it survives any restart from here on."""
    base = await parts.names.model(body.model, caller.owner, fresh=True)
    card = await asyncio.to_thread(parts.registry.store.find, base, caller.owner)
    if card.adapter or card.config.architecture == "encoder_decoder":
        what = f"an adapter over {card.base_model!r}" if card.adapter else "an encoder-decoder"
        raise InvalidRequest(f"model {body.model!r} is {what}; tune a base encoder or decoder instead", "model")
    _refuse_contrary(body, card.config.architecture)
    if parts.settings.run_worker:  # else it runs on another machine, which we know nothing of
        check_room(card.id, card.weights_bytes, body.adapter, machine_memory())
    job = Job(
        id=new_id("ftjob"),
        model=card.id,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=body.seed if body.seed is not None else 0,
        hyperparameters=_hyperparameters(body).model_dump() | body.model_dump(include=OWN_HYPERPARAMETERS),
        meta=body.metadata or {},
        priority=body.priority,
        request_key=request_key(body.model_dump(mode="json")),
    )
    is_retry = request.headers.get("x-stainless-retry-count", "0") not in ("0", "")
    window = RETRY_WINDOW_SECONDS if is_retry else None
    trace = current_trace()
    traceparent = trace.traceparent if trace is not None else None
    job = await asyncio.to_thread(jobs.create_job, job, parts.settings.max_queued_jobs, window, traceparent)
    now_about(job=job.id)
    if trace is not None:
        trace.tell(job=job.id)
    return await asyncio.to_thread(_shape_one, job, jobs)


@router.get("", responses=refusals(404))
async def list_jobs(
    request: Request,
    jobs: JobsOf,
    after: After = None,
    limit: Limit = 20,
    metadata: Annotated[str | None, Query(description="metadata[k]=v: jobs with this pair; null: with none")] = None,
) -> JobList:
    """Jobs, newest first."""
    wanted = _metadata_filter(request, metadata)
    found, has_more = await asyncio.to_thread(jobs.list_jobs, after, limit, wanted)
    return JobList(data=await asyncio.to_thread(shape, found, jobs), has_more=has_more)


@router.get("/{job_id}", responses=refusals(404))
async def get_job(job_id: JobId, jobs: JobsOf) -> JobObject:
    """One job as it stands."""
    return await asyncio.to_thread(lambda: _shape_one(jobs.job(job_id), jobs))


@router.post("/{job_id}/cancel", responses=refusals(404, 409))
async def cancel_job(job_id: JobId, jobs: JobsOf) -> JobObject:
    """Cancels a job that has not ended; a running one stops after the step it is in."""
    return await asyncio.to_thread(lambda: _shape_one(jobs.cancel_job(job_id), jobs))


@router.post("/{job_id}/pause", responses=refusals(404, 409))
async def pause_job(job_id: JobId, jobs: JobsOf) -> JobObject:
    """Takes a job out of the queue; a running one stops after the step it is in and keeps what it has learned."""
    return await asyncio.to_thread(lambda: _shape_one(jobs.pause_job(job_id), jobs))


@router.post("/{job_id}/resume", responses=refusals(404, 409))
async def resume_job(job_id: JobId, jobs: JobsOf) -> JobObject:
    """Puts a paused job back into the queue; it goes on from the very step."""
    return await asyncio.to_thread(lambda: _shape_one(jobs.resume_job(job_id), jobs))


@router.get(
    "/{job_id}/events",
    operation_id="list_job_events",
    response_model=EventList,
    responses=EVENTS_RESPONSE | refusals(404),
)
async def list_events(
    job_id: JobId,
    request: Request,
    parts: PartsOf,
    jobs: JobsOf,
    after: After = None,
    limit: LongLimit = 20,
    stream: Annotated[bool, Query(description="as they happen, as server-sent events")] = False,
) -> EventList | Response:
    """What happened to a job; metrics events carry the learning curve."""
    if stream or "text/event-stream" in request.headers.get("accept", ""):
        seen = request.headers.get("last-event-id") or after
        events, ended = await asyncio.to_thread(jobs.events_since, job_id, seen, STREAM_PAGE)
        if ended and seen is not None and not events:
            return Response(status_code=204)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        told = _stream(jobs, job_id, seen, parts.drain)
        return StreamingResponse(told, media_type="text/event-stream", headers=headers)
    events, has_more = await asyncio.to_thread(jobs.list_events, job_id, after, limit)
    return EventList(data=[_shape_event(event) for event in events], has_more=has_more)


async def _stream(jobs: JobStore, job_id: str, seen: str | None, drain: Drain) -> AsyncIterator[str]:
    """Server-sent events, each with its id, so that a reader that was cut off goes on after the last it has; so does
    everyone when the service stops."""
    silent_since = time.monotonic()
    while True:
        events, ended = await asyncio.to_thread(jobs.events_since, job_id, seen, STREAM_PAGE)
        for event in events:
            seen = event.id
            yield f"id: {event.id}\ndata: {_shape_event(event).model_dump_json()}\n\n"
        if events:
            silent_since = time.monotonic()
        elif ended or drain.begun:
            return
        else:
            if time.monotonic() - silent_since > STREAM_COMMENT_SECONDS:
                silent_since = time.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(STREAM_POLL_SECONDS)


@router.get("/{job_id}/checkpoints", operation_id="list_job_checkpoints", responses=refusals(404))
async def list_checkpoints(
    job_id: JobId,
    jobs: JobsOf,
    after: After = None,
    limit: LongLimit = 10,
) -> CheckpointList:
    """The models of a job's last evaluations, newest first, each callable by its name."""
    checkpoints, has_more = await asyncio.to_thread(jobs.list_checkpoints, job_id, after, limit)
    data = [_shape_checkpoint(checkpoint) for checkpoint in checkpoints]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return CheckpointList(data=data, has_more=has_more, first_id=first, last_id=last)


def _metadata_filter(request: Request, whole: str | None) -> dict[str, str] | None:
    """From `metadata[k]=v` for each pair, or `metadata=null` for jobs without any; None filters nothing."""
    if whole not in (None, "null"):
        raise InvalidRequest(f"metadata={whole!r}; filter by metadata[key]=value, or by metadata=null", "metadata")
    pairs = {
        found[1]: value
        for name, value in request.query_params.multi_items()
        if (found := re.fullmatch(r"metadata\[(.*)\]", name, re.DOTALL))
    }
    return pairs or (None if whole is None else {})


def shape(rows: Sequence[Job], jobs: JobStore) -> list[JobObject]:
    """Jobs as the API shows them, with the places of those that wait."""
    waits = any(job.status in WAITING_STATES for job in rows)
    turns, usual_seconds = (jobs.turns(), jobs.usual_seconds()) if waits else ({}, None)
    return [_shape(job, turns.get(job.id), usual_seconds) for job in rows]


def _shape_one(job: Job, jobs: JobStore) -> JobObject:
    return shape([job], jobs)[0]


def _shape(job: Job, place: int | None, usual_seconds: float | None) -> JobObject:
    settled = {name: value for name, value in job.hyperparameters.items() if name != "reasons"}
    return JobObject(
        id=job.id,
        created_at=int(job.created_at),
        finished_at=int(job.finished_at) if job.finished_at else None,
        estimated_finish=_estimated_finish(job, place, usual_seconds),
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
        queue_position=place,
        progress=_progress(job),
        metrics=job.metrics,
    )


def _progress(job: Job) -> dict[str, Any] | None:
    """With `finishing`, what is done after the last step, only while it is done."""
    if job.progress is None or job.status == "running":
        return job.progress
    return {name: value for name, value in job.progress.items() if name != "finishing"}


def _estimated_finish(job: Job, place: int | None, usual_seconds: float | None) -> int | None:
    """Of a running job from the tokens trained so far and the present speed, None before its first progress report and
    after its last step; of one that waits from its place and what the last jobs took, None before any has succeeded."""
    if place is not None and usual_seconds is not None:
        return int(time.time() + place * usual_seconds)
    progress = job.progress or {}
    speed, step = progress.get("tokens_per_second"), progress.get("step")
    if job.status != "running" or not speed or not step or "finishing" in progress:
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


def _shape_checkpoint(checkpoint: Checkpoint) -> CheckpointObject:
    return CheckpointObject(
        id=checkpoint.id,
        created_at=int(checkpoint.created_at),
        fine_tuning_job_id=checkpoint.job_id,
        fine_tuned_model_checkpoint=checkpoint.model,
        step_number=checkpoint.step,
        metrics=checkpoint.metrics,
    )


def _refuse_contrary(body: CreateJobRequest, architecture: str) -> None:
    """Raises InvalidRequest for fields that no run over such a base can have together."""
    if body.lora_rank is not None and body.adapter != "lora":
        message = f"lora_rank is {body.lora_rank}, but the adapter is {body.adapter!r}; choose adapter 'lora', or none"
        raise InvalidRequest(message, "lora_rank")
    if body.training_method == "few_shot" and body.adapter == "lora":
        message = "training_method is 'few_shot', which tunes the whole model; leave out adapter 'lora'"
        raise InvalidRequest(message, "training_method")
    if body.training_method == "few_shot" and architecture != "encoder":
        message = (
            f"training_method is 'few_shot', which starts from an encoder's vectors; {body.model!r} is a {architecture}"
        )
        raise InvalidRequest(message, "training_method")
    refuse_unlike(body.model_dump(include=OWN_HYPERPARAMETERS), body.task)


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
