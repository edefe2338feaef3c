"""Schemas of `routes/completions.py`: text written, in OpenAI's shape."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr, model_validator

from service.schemas.base import ModelName, Request, Time, examples


def _prompts(value: Any) -> Any:
    """Turns the many messages of a failed union into one that says what is wanted."""
    ids = isinstance(value, list) and value and all(type(item) is int for item in value)
    rows = isinstance(value, list) and value and all(isinstance(item, list) for item in value)
    texts = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    if rows and all(row and all(type(item) is int for item in row) for row in value):
        return value
    if isinstance(value, str) or ids or texts:
        return value
    raise ValueError("send a string, a list of strings, a list of token ids, or a list of lists of them; none empty")


def _or_null(schema: dict[str, Any]) -> None:
    """For a field whose default null asks for, as OpenAI's types have it; `CompletionRequest` reads it so."""
    kind = {name: schema.pop(name) for name in tuple(schema) if name not in ("default", "title", "description")}
    schema["anyOf"] = [kind, {"type": "null"}]


class StreamOptions(Request):
    include_usage: bool = False


class CompletionRequest(Request):
    model_config = examples(
        {"model": "chinese-writer", "prompt": "北京", "max_tokens": 8},
        {
            "model": "chinese-writer",
            "prompt": "北京",
            "max_tokens": 8,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )

    model: ModelName
    prompt: Annotated[StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]], BeforeValidator(_prompts)]
    max_tokens: int = Field(default=16, ge=1, json_schema_extra=_or_null)
    temperature: float = Field(default=1.0, ge=0, le=2, json_schema_extra=_or_null)
    top_p: float = Field(default=1.0, gt=0, le=1, json_schema_extra=_or_null)
    top_k: int = Field(default=0, ge=0, description="only the k likeliest tokens; 0 takes all")
    n: int = Field(default=1, ge=1, le=32, json_schema_extra=_or_null)
    best_of: int | None = Field(default=None, ge=1, le=1, description="only 1; use num_beams for a wider search")
    num_beams: int = Field(default=1, ge=1, le=16, description="width of a beam search; 1 samples")
    stop: StrictStr | list[StrictStr] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool = Field(default=False, json_schema_extra=_or_null)
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool = Field(default=False, json_schema_extra=_or_null)
    user: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        """Null is as good as nothing where `_or_null` says so."""
        if not isinstance(fields, dict):
            return fields
        spared = {name for name, field in cls.model_fields.items() if field.json_schema_extra is _or_null}
        return {name: value for name, value in fields.items() if value is not None or name not in spared}


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Logprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Completion(BaseModel):
    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None


class CompletionResponse(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: Time
    model: str
    choices: list[Completion]
    usage: CompletionUsage | None
