"""Schemas of `routes/session.py`: a browser that logs in."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from service.schemas.base import Request, examples


class LoginRequest(Request):
    model_config = examples(
        {"key": "vt-0123456789abcdef"},
    )

    key: Annotated[str, Field(min_length=1, max_length=200)]


class WhoAmI(BaseModel):
    object: Literal["caller"] = "caller"
    owner: str
    scopes: list[str]
    key_id: str | None
