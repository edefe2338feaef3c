"""Schemas of `routes/compare.py`: two models on one text, or one model on two."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StrictStr

from service.schemas.attention import AttentionChoice, AttentionHeader
from service.schemas.base import ModelName, Request, examples
from service.schemas.explain import ExplainOptions, ExplainResponse
from service.schemas.inference import Pair


class Side(Request):
    model: ModelName
    input: StrictStr | Pair = Field(description="a text, or a pair as a list of two strings")


class CompareRequest(Request):
    left: Side
    right: Side = Field(description="what is compared with the left: differences are right less left")


class CompareAttentionRequest(CompareRequest, AttentionChoice):
    """One choice for both sides."""

    model_config = examples(
        {
            "left": {"model": "minilm-l6", "input": "A good film"},
            "right": {"model": "minilm-l6", "input": "A bad film"},
            "layers": [0],
        },
    )


class CompareExplainRequest(CompareRequest, ExplainOptions):
    """One question for both sides: without a target, the label that the left answers."""

    model_config = examples(
        {
            "left": {"model": "movie-sentiment", "input": "A good film"},
            "right": {"model": "movie-sentiment", "input": "A bad film"},
        },
    )


Places = Annotated[tuple[int, int], Field(description="of a unit on the left and on the right")]


class AttentionChange(BaseModel):
    layer: int
    head: int | Literal["all"]
    looks: Places = Field(description="the unit whose row it is")
    looked_at: Places
    left: float
    right: float


class AttentionComparison(BaseModel):
    object: Literal["attention_comparison"] = "attention_comparison"
    left: AttentionHeader
    right: AttentionHeader
    matched: list[Places] = Field(description="units that both sides have; the others are in neither difference")
    moved: list[list[float]] = Field(
        description="by layer and head: half the absolute difference of a row, mean over rows; 0 the same, 1 all of it"
    )

    largest: list[AttentionChange]
    difference: list[list[list[list[float]]]] = Field(description="of the matched units, rounded to 4 digits")


class ScoreChange(BaseModel):
    unit: Places
    left: float
    right: float


class ExplainComparison(BaseModel):
    object: Literal["explanation_comparison"] = "explanation_comparison"
    left: ExplainResponse
    right: ExplainResponse
    matched: list[Places] = Field(description="units that both sides have")
    difference: list[float] = Field(description="of the matched units' scores")
    agreement: float | None = Field(description="Spearman's rank correlation of the matched scores; null below 3 units")
    largest: list[ScoreChange]
