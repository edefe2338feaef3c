"""Schemas of `routes/inference.py`: texts in, answers out."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr

from service.schemas.base import ModelName, Request, Truncate, Usage, examples


def _one_or_many(value: Any) -> Any:
    """Turns the many messages of a failed union into one that says what is wanted."""
    wanted = "send a string, a list of strings, or a list of [first, second] pairs"
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError(f"a value of type {type(value).__name__}; {wanted}")
    for index, item in enumerate(value):
        pair = isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item)
        if not isinstance(item, str) and not pair:
            raise ValueError(f"item {index} is of type {type(item).__name__}; {wanted}")
    return value


def _one_or_many_or_ids(value: Any) -> Any:
    """The same for embeddings, where a text may come as token ids."""
    if isinstance(value, list) and value:
        rows = value if all(isinstance(item, list) for item in value) else [value]
        if all(row and all(type(item) is int for item in row) for row in rows):
            return value
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        raise ValueError("nested lists hold token ids, whole numbers, one list a text; none may be empty")
    return _one_or_many(value)


Pair = Annotated[tuple[StrictStr, StrictStr], Field(strict=False)]  # JSON has lists where we have tuples

Texts = Annotated[StrictStr | list[StrictStr | Pair], BeforeValidator(_one_or_many)]

TextsOrIds = Annotated[
    StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]], BeforeValidator(_one_or_many_or_ids)
]


class TextRequest(Request):
    model: ModelName
    input: Texts
    truncate: Truncate = False


WINDOWS = (
    "read texts that are longer than the model in overlapping windows and make one answer of theirs, instead of "
    "refusing them; usage counts what was read, overlaps included"
)


class LongTextRequest(TextRequest):
    windows: bool = Field(default=False, description=WINDOWS)


class ClassifyRequest(LongTextRequest):
    model_config = examples(
        {"model": "movie-sentiment", "input": "A wonderful, moving film."},
        {"model": "movie-sentiment", "input": ["A wonderful, moving film.", "Two hours that I want back."], "top_k": 1},
    )

    top_k: int | None = Field(default=None, ge=1)


class EmbeddingsRequest(LongTextRequest):
    model_config = examples(
        {"model": "minilm-l6", "input": ["A wonderful, moving film.", "Two hours that I want back."]},
        {"model": "minilm-l6", "input": "A wonderful, moving film.", "encoding_format": "base64", "dimensions": 16},
    )

    input: TextsOrIds  # type: ignore[assignment] # wider than the other routes'
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


class TokenizeRequest(TextRequest):
    model_config = examples(
        {"model": "minilm-l6", "input": "A wonderful, moving film.", "normalised": True},
    )

    normalised: bool = Field(default=False, description="also the text as the tokenizer cuts it")


class TagRequest(LongTextRequest):
    model_config = examples(
        {"model": "places", "input": "我爱北京天安门"},
    )

    aggregation: Literal["auto", "token", "word", "span"] = "auto"


class FillMaskRequest(TextRequest):
    model_config = examples(
        {"model": "chinese-encoder", "input": "我爱[MASK]京天安门", "top_k": 3},
    )

    top_k: int = Field(default=5, ge=1, le=100)


class Score(BaseModel):
    label: str
    score: float


class Classification(BaseModel):
    object: Literal["classification"] = "classification"
    index: int
    label: str
    score: float
    scores: list[Score]
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class Regression(BaseModel):
    """What /v1/classify gives for a model that was trained on numbers."""

    object: Literal["regression"] = "regression"
    index: int
    score: float
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class ClassifyResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Classification] | list[Regression]
    usage: Usage


@dataclass(slots=True)
class Tag:  # no model: an answer has as many as tokens, and to check each takes four times as long as to make it
    label: str
    score: float
    start: int
    end: int
    text: str
    segment: Annotated[int, Field(description="0 for the first text of a pair, 1 for the second")] = 0


class Tagged(BaseModel):
    index: int
    tags: list[Tag]
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class TagResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Tagged]
    usage: Usage


class Candidate(BaseModel):
    token: str
    id: int
    score: float


class Mask(BaseModel):
    start: int
    end: int
    candidates: list[Candidate]
    segment: int = Field(default=0, description="0 for the first text of a pair, 1 for the second")


class FilledMasks(BaseModel):
    index: int
    masks: list[Mask]
    truncated: bool


class FillMaskResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[FilledMasks]
    usage: Usage


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    truncated: bool
    windows: int = Field(default=1, description="in how many parts the text was read")


class EmbeddingsResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: Usage


class Tokens(BaseModel):
    index: int
    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    special: list[bool]
    truncated: bool
    full_length: int = Field(description="tokens before truncation; of a very long text an estimate")
    normalised: str | None = Field(default=None, description="case, accents and white space changed, when asked for")


class TokenizeResponse(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[Tokens]
    usage: Usage
