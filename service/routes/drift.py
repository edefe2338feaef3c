"""`/v1/drift`: how attention and text vectors move from model to model, most often over one training."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter, Request, Response

from model.explain.drift import drift
from model.tokenizer import Encoding
from service.context import CallerOf, JobsOf, Parts, PartsOf
from service.engine.runner import Array, LoadedModel
from service.errors import InvalidRequest
from service.jobs.store import JobStore
from service.keys import Caller
from service.pictures.animation import (
    MAX_COLORED,
    MEDIA_TYPES,
    Form,
    PointsPicture,
    animated,
    heatmap_frames,
    points_frames,
)
from service.pictures.fonts import shortened
from service.pictures.heatmap import Picture
from service.routes.answers import forms
from service.routes.forms import JSON, chosen_form, formed
from service.routes.inference import check_can, encode_for_queue
from service.schemas.drift import DriftAttention, DriftFrame, DriftRequest, DriftResponse

router = APIRouter(prefix="/v1", tags=["explain"])
MAX_ATTENTION_TOKENS = 64  # of a matrix in every frame
DIGITS = 4
NAME_LETTERS = 24  # of a text beside its point
FORMS: dict[str, Form] = {"image/gif": "gif", "image/apng": "png", "image/png": "png"}
RESPONSES = forms("JSON; by Accept a picture that moves", "image/gif", "image/apng")
Steps = list[tuple[str, int | None]]  # a model and its step of the training


@router.post("/drift", operation_id="follow_drift", response_model=DriftResponse, responses=RESPONSES)
async def movement(body: DriftRequest, request: Request, parts: PartsOf, caller: CallerOf, jobs: JobsOf) -> Response:
    """Text vectors turned onto each other and drawn in one plane, and the attention of one text, model after model."""
    answer = await _answer(body, parts, caller, jobs)
    form = chosen_form(request, FORMS)
    if form == JSON:
        return formed(answer.model_dump_json(), JSON)
    content = await asyncio.to_thread(_moving, body, answer, FORMS[form])
    return formed(content, MEDIA_TYPES[FORMS[form]])


async def _answer(body: DriftRequest, parts: Parts, caller: Caller, jobs: JobStore) -> DriftResponse:
    if body.attention_of >= len(body.input):
        raise InvalidRequest(
            f"attention_of is {body.attention_of}; input has texts 0 to {len(body.input) - 1}", "attention_of"
        )
    if bool(body.job) == bool(body.models):
        raise InvalidRequest(f"{len(body.models)} models and job {body.job!r} are named; name either", "models")
    steps = await asyncio.to_thread(_of_job, jobs, body.job) if body.job else [(name, None) for name in body.models]
    if len(steps) < 2:
        named = f"job {body.job!r} has kept no checkpoint yet; wait" if body.job else f"models names {len(steps)}; add"
        raise InvalidRequest(f"{named} until there are at least 2 models to move between", "models")
    seen = [await _look(body, parts, caller, name) for name, _ in steps]
    widths = {look.vectors.shape[1] for look in seen}
    if len(widths) > 1:
        raise InvalidRequest(
            f"the models have vectors of widths {sorted(widths)}; compare models of one width", "models"
        )
    found = await asyncio.to_thread(drift, np.stack([look.vectors for look in seen]).astype(np.float64))
    frames = [
        DriftFrame(
            model=name,
            step=step,
            points=[(round(x, DIGITS), round(y, DIGITS)) for x, y in found.points[index].tolist()],
            moved=round(float(found.moved[index]), DIGITS),
            cosines=np.round(found.cosines[index], DIGITS).tolist(),
            predictions=look.predictions,
            attention=look.attention,
        )
        for index, ((name, step), look) in enumerate(zip(steps, seen, strict=True))
    ]
    return DriftResponse(
        input=body.input, attention_of=body.attention_of, shown=round(found.shown, DIGITS), frames=frames
    )


def _of_job(jobs: JobStore, job_id: str) -> Steps:
    """Its base, what is kept of its checkpoints, oldest first, and its model. Raises NotFound."""
    job = jobs.job(job_id)
    newest, _ = jobs.list_checkpoints(job_id, None, 100)
    steps: Steps = [(job.model, 0), *((checkpoint.model, checkpoint.step) for checkpoint in reversed(newest))]
    return steps if job.fine_tuned_model is None else [*steps, (job.fine_tuned_model, None)]


@dataclass(frozen=True)
class _Look:
    """What one model makes of the texts."""

    vectors: Array  # [P, D], of unit length
    predictions: list[str | None]
    attention: DriftAttention


async def _look(body: DriftRequest, parts: Parts, caller: Caller, name: str) -> _Look:
    loaded = await parts.model(name, caller.owner)
    check_can(loaded, name, "embed", "an encoder or a causal decoder")
    layer = body.layer if body.layer >= 0 else loaded.config.num_layers + body.layer
    if not 0 <= layer < loaded.config.num_layers:
        raise InvalidRequest(
            f"layer {body.layer} does not exist; model {name!r} has layers 0 to {loaded.config.num_layers - 1}", "layer"
        )
    encodings = await encode_for_queue(parts, loaded, list(body.input), body.truncate)
    vectors = await parts.engine.submit(loaded, "embed", encodings, caller.owner)
    followed = encodings[body.attention_of]
    if len(followed.ids) > MAX_ATTENTION_TOKENS:
        raise InvalidRequest(
            f"input {body.attention_of} has {len(followed.ids)} tokens; attention is followed over at most "
            f"{MAX_ATTENTION_TOKENS}: name a shorter text in attention_of",
            "attention_of",
        )
    weights = await parts.engine.attention(loaded, followed, "raw", [layer], list(range(loaded.config.num_heads)))
    mean = np.round(weights[0].mean(axis=0).astype(np.float64), DIGITS)  # [T, T]
    attention = DriftAttention(tokens=list(followed.tokens), layer=layer, weights=mean.tolist())
    return _Look(np.stack(vectors), await _predictions(parts, loaded, caller, encodings), attention)


async def _predictions(
    parts: Parts, loaded: LoadedModel, caller: Caller, encodings: Sequence[Encoding]
) -> list[str | None]:
    if loaded.config.task not in ("classification", "multi_label"):
        return [None] * len(encodings)
    scores = await parts.engine.submit(loaded, "classify", encodings, caller.owner)
    return [loaded.labels[int(row.argmax())] for row in scores]


def _moving(body: DriftRequest, answer: DriftResponse, form: Form) -> bytes:
    frames = answer.frames
    captions = [frame.model if frame.step is None else f"{frame.model} (step {frame.step})" for frame in frames]
    if body.show == "attention":
        tokens = frames[0].attention.tokens
        if any(frame.attention.tokens != tokens for frame in frames):
            raise InvalidRequest("the models read the text as different tokens; show points instead", "show")
        return animated(heatmap_frames([_heatmap(frame) for frame in frames], captions), form)
    groups = [label or "text" for label in frames[-1].predictions]
    if len(set(groups)) > MAX_COLORED:
        groups = ["text"] * len(groups)
    note = (
        f"each point a text, in the plane of the two directions that hold {answer.shown:.0%} of the variance; colour: "
        "what the last model answers"
    )
    picture = PointsPicture(
        points=np.array([frame.points for frame in frames]),
        captions=captions,
        names=[shortened(text, NAME_LETTERS).replace("␣", " ") for text in body.input],
        groups=groups,
        title="Texts on their way through the models",
        note=note,
    )
    return animated(points_frames(picture), form)


def _heatmap(frame: DriftFrame) -> Picture:
    weights = np.array(frame.attention.weights, dtype=np.float32)[None, None]
    note = "row: the token that looks · column: the token it looks at · mean over heads"
    top = float(weights.max()) or 1.0
    layer, tokens = frame.attention.layer, frame.attention.tokens
    return Picture(weights, tokens, [layer], ["all"], "attention", note, "attention weight", top)
