"""What the schemas of all routes share."""

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """A request body. Unknown fields are refused, so that a misspelt option is seen."""

    model_config = ConfigDict(extra="forbid", strict=True)


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
