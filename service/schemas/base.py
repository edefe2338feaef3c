"""What the schemas of all routes share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

TRUNCATE = "cut texts that are longer than the model reads, instead of refusing them"
ModelName = Annotated[str, Field(description="a model's id or an alias; `GET /v1/models` lists them")]
Truncate = Annotated[bool, Field(description=TRUNCATE)]
Time = Annotated[int, Field(description="seconds since 1970, UTC")]
MAX_LEVELS = 32  # of lists and objects in each other; no field has more than four


def examples(*bodies: dict[str, Any]) -> ConfigDict:
    """Bodies that the OpenAPI document shows, and that a test sends."""
    return ConfigDict(json_schema_extra={"examples": list(bodies)})


class Request(BaseModel):
    """A request body. Unknown fields are refused, so that a misspelt option is seen."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, fields: Any) -> Any:
        """JSON can name half of a surrogate pair, which no text has and neither tokenizers nor databases take. And JSON
        Schema takes 2.0 for an integer, which some languages write for 2."""
        if isinstance(fields, dict):
            for name, value in fields.items():
                if has_half_character(value) or has_half_character(name):
                    raise ValueError(f"{name!r:.80} has half of a surrogate pair, which is no character; remove it")
            return {name: whole(value) for name, value in fields.items()}
        return fields


def whole(value: Any) -> Any:
    """Numbers without a fraction as integers, in a list too; a field for any number takes those as well."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return [whole(item) for item in value] if isinstance(value, list) and float in map(type, value) else value


def has_half_character(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Whether any text in a JSON value has half of a surrogate pair. Raises ValueError for a value of more levels: no
    walk through it would come to an end."""
    if isinstance(value, str):
        if value.isascii():
            return False
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    if not isinstance(value, list | tuple | dict):
        return False
    if not levels:
        raise ValueError(f"lists and objects stand in each other more than {MAX_LEVELS} deep; no field takes that")
    if isinstance(value, dict):
        return any(has_half_character(part, levels - 1) for pair in value.items() for part in pair)
    return any(has_half_character(item, levels - 1) for item in value)


class Usage(BaseModel):
    prompt_tokens: int = Field(description="that were read, special ones included")
    total_tokens: int


class Deleted(BaseModel):
    id: str
    object: str
    deleted: bool = True


class ErrorDetail(BaseModel):
    message: str = Field(description="what was wrong, the limit, the remedy")
    type: str = Field(description="OpenAI's kind of error")
    param: str | None = Field(description="the field at fault")
    code: str | None = Field(description="for programs, such as `context_length_exceeded` or `model_not_found`")


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail
