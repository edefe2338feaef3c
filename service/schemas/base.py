"""What the schemas of all routes share."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Request(BaseModel):
    """A request body. Unknown fields are refused, so that a misspelt option is seen."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _whole_characters(cls, fields: Any) -> Any:
        """JSON can name half of a surrogate pair, which no text has and neither tokenizers nor databases take."""
        if isinstance(fields, dict):
            for name, value in fields.items():
                if has_half_character(value) or has_half_character(name):
                    raise ValueError(f"{name!r:.80} has half of a surrogate pair, which is no character; remove it")
        return fields


def has_half_character(value: Any) -> bool:
    """Whether any text in a JSON value has half of a surrogate pair."""
    if isinstance(value, str):
        if value.isascii():
            return False
        try:
            value.encode()
        except UnicodeEncodeError:
            return True
        return False
    if isinstance(value, list | tuple):
        return any(map(has_half_character, value))
    return isinstance(value, dict) and any(
        has_half_character(key) or has_half_character(inner) for key, inner in value.items()
    )


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Deleted(BaseModel):
    id: str
    object: str
    deleted: bool = True


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail
