"""Schemas of `routes/explain.py` and `routes/trace.py`: why a model answers as it does, and each step of how."""

from typing import Any, Literal

from pydantic import BaseModel, Field, StrictStr

from model.explain.faithfulness import Verdict
from model.explain.units import Merge
from service.engine.explaining import Method
from service.schemas.attention import MERGES, NUMBERS, AttentionUnit
from service.schemas.base import ModelName, Request, Truncate, Usage, examples
from service.schemas.inference import Pair

WAYS = (
    "integrated_gradients: signed, adds up over a baseline of masks (Sundararajan et al. 2017); decomposition: signed, "
    "adds up to the value, through every layer (after DecompX, Modarressi et al. 2023); gradient_weighted: attention "
    "weighted by its gradient, at least 0 (Chefer et al. 2021); occlusion: signed, what the answer loses without a "
    "token; gradient_x_input: signed, from one gradient"
)
NORMALISE = "search the least and the greatest AOPC of this text too, at some 20 forward passes a token"
TARGETS = "the label to explain, or the next token of a model that writes; by default what the model answers"


class ExplainOptions(Request):
    """What of an answer is explained, and how."""

    method: Method = Field(default="decomposition", description=WAYS)
    target: str | None = Field(default=None, description=TARGETS)
    against: str | None = Field(default=None, description="another label: why the target and not this")
    special: Literal["keep", "hide"] = Field(default="keep", description="whether special tokens have a unit")
    merge: Merge = Field(default="token", description=MERGES)
    faithfulness: bool = Field(default=True, description="measure how far the scores tell what the model uses")
    num_random: int = Field(default=10, ge=2, le=100, description="random rankings that the scores are held against")
    normalise: bool = Field(default=False, description=NORMALISE)
    truncate: Truncate = False


class ExplainRequest(ExplainOptions):
    model_config = examples(
        {"model": "movie-sentiment", "input": "A wonderful, moving film.", "method": "decomposition", "merge": "word"},
    )

    model: ModelName
    input: StrictStr | Pair = Field(description="a text, or a pair as a list of two strings")


class ScoredUnit(AttentionUnit):
    score: float = Field(description="above zero speaks for the target; the sum of its tokens' scores")


class Answer(BaseModel):
    label: str
    score: float


class RandomControl(BaseModel):
    mean: float
    deviation: float = Field(description="how far one random ranking lies from the mean")


class ErasureCurve(BaseModel):
    at: list[float] = Field(description="what the answer loses at each of `percents`")
    aopc: float = Field(description="the mean of `at`")
    random: RandomControl = Field(description="the same of random rankings of the same tokens")
    normalised: float | None = Field(
        description="`aopc` between the least and the greatest found for this text, 0 to 1 (Edin et al. 2025), which "
        "different models can be compared by; null: not asked for, or no ranking makes a difference"
    )


class FaithfulnessBody(BaseModel):
    """After ERASER (DeYoung et al. 2020): what the answer loses without the highest tokens, and with them alone."""

    answer: float = Field(description="for the whole text: a probability, or a regression model's number")
    percents: list[int] = Field(description="of the tokens, highest first")
    comprehensiveness: ErasureCurve = Field(description="without them: the greater, the better")
    sufficiency: ErasureCurve = Field(description="with them alone: the smaller, the better")
    num_random: int
    verdict: Verdict = Field(description="on comprehensiveness, beyond 2 deviations of a random ranking")


class ExplainResponse(BaseModel):
    object: Literal["explanation"] = "explanation"
    model: str
    method: Method
    target: str
    against: str | None
    value: float = Field(description="of the target: its logit, or how far that is above the other's")
    baseline: float = Field(description="the value that the scores start from")
    rest: float | None = Field(description="value less baseline less all scores; null: this way does not add up")
    hidden: float = Field(description="the sum of the scores that no unit shows")
    prediction: list[Answer] = Field(description="likeliest first")
    tokens: list[str]
    ids: list[int]
    offsets: list[tuple[int, int]]
    special: list[bool]
    units: list[ScoredUnit]
    faithfulness: FaithfulnessBody | None = Field(description="null where it was not wanted, or is not measured")
    truncated: bool
    usage: Usage


STAGES = "names of stages such as 'query'; by default all"
COLUMNS = "numbers of each vector that are sent, 0: summaries alone; scores, logits and probabilities are sent whole"


class TraceRequest(Request):
    model_config = examples(
        {"model": "minilm-l6", "input": "A good film", "layers": [0], "columns": 4},
    )

    model: ModelName
    input: StrictStr | Pair = Field(description="a text, or a pair as a list of two strings")
    layers: list[int] | StrictStr = Field(default="all", description=NUMBERS)
    stages: list[StrictStr] = Field(default=[], max_length=64, description=STAGES)
    columns: int = Field(default=16, ge=0, le=8192, description=COLUMNS)
    num_guesses: int = Field(default=5, ge=1, le=50, description="of a language model, tokens a place and layer")
    truncate: Truncate = False


class TraceConfig(BaseModel):
    """The shape of the model."""

    num_layers: int
    num_heads: int
    width: int
    head_width: int
    feed_forward_width: int
    vocab_size: int
    task: str
    pooling: str
    positions: str
    activation: str
    norm_first: bool
    causal: bool


class Summary(BaseModel):
    """Of all numbers of a stage but those that a causal model hides."""

    min: float
    max: float
    mean: float
    std: float


class TraceStage(BaseModel):
    name: str
    layer: int | None = Field(description="null: before the first layer or after the last")
    inputs: list[str] = Field(description="stages it was made from: of its layer, else of before")
    formula: str
    shape: list[int]
    summary: Summary
    norms: list[Any] | None = Field(description="length of each vector, by the axes before the last")
    values: list[Any] | None = Field(
        description="nested by shape, the last axis of vectors cut to `columns`; null: a hidden score"
    )


class GuessedToken(BaseModel):
    text: str
    id: int
    probability: float


class LayerGuess(BaseModel):
    layer: int = Field(description="0: the embeddings, before any layer")
    tokens: list[list[GuessedToken]] = Field(description="of each place, likeliest first")


class TraceResponse(BaseModel):
    object: Literal["trace"] = "trace"
    model: str
    config: TraceConfig
    labels: list[str]
    tokens: list[str]
    ids: list[int]
    offsets: list[tuple[int, int]]
    special: list[bool]
    units: list[AttentionUnit]
    stages: list[TraceStage]
    guesses: list[LayerGuess] = Field(description="what a language model would say after each layer; else empty")
    truncated: bool
    usage: Usage
