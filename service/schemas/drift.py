"""Schemas of `routes/drift.py`: the same texts through one model after another."""

from typing import Literal

from pydantic import BaseModel, Field, StrictStr

from service.schemas.base import Request, Truncate, examples

MODELS = "in order, such as a base, the checkpoints of its training and the result; or leave it out and name a job"


class DriftRequest(Request):
    model_config = examples(
        {
            "models": ["minilm-l6", "movie-sentiment"],
            "input": ["A wonderful, moving film.", "Two hours that I want back.", "A film."],
        },
    )

    models: list[StrictStr] = Field(default=[], max_length=32, description=MODELS)
    job: str | None = Field(default=None, description="its base, its checkpoints in order, and its model")
    input: list[StrictStr] = Field(min_length=3, max_length=200, description="at least 3 texts that are followed")
    attention_of: int = Field(default=0, ge=0, description="whose attention is followed too: its place in `input`")
    layer: int = Field(default=-1, description="whose attention, the mean over its heads; -1: the last")
    show: Literal["points", "attention"] = Field(default="points", description="what a moving picture shows")
    truncate: Truncate = False


class DriftAttention(BaseModel):
    tokens: list[str]
    layer: int
    weights: list[list[float]] = Field(description="[T, T], the mean over heads; rounded to 4 digits")


class DriftFrame(BaseModel):
    """One model."""

    model: str
    step: int | None = Field(description="of the training, where the model is a checkpoint of the job")
    points: list[tuple[float, float]] = Field(description="of the texts, in one plane for all frames")
    moved: float = Field(description="how far from the frame before, against that one's size; the first 0")
    cosines: list[float] = Field(description="of each text's vector with that of the first frame")
    predictions: list[str | None] = Field(description="the likeliest label of each text; null without labels")
    attention: DriftAttention


class DriftResponse(BaseModel):
    object: Literal["drift"] = "drift"
    input: list[str]
    attention_of: int
    shown: float = Field(description="share of the variance of all frames that the plane shows")
    frames: list[DriftFrame]
