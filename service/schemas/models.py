"""Schemas of `routes/models.py`: models and the names that stand for them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.schemas.base import Request, Time, examples

ALIAS = "^[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?$"  # `service/aliases.py` refuses others, and says why


class ModelObject(BaseModel):
    id: str
    aliases: list[str] = Field(description="names of the caller's that stand for it now")
    object: Literal["model"] = "model"
    created: Time
    owned_by: str
    task: str
    architecture: str
    routes: list[str]
    adapter: bool
    labels: list[str] | None
    num_layers: int
    num_heads: int
    width: int
    max_length: int
    base_model: str | None
    dtype: str
    recorded_passes: int | None = Field(
        description="while it is in memory, its forward passes that run as a whole: on a CPU one for all shapes, and "
        "one more where first tokens stand for their texts; on a GPU CUDA graphs, one a shape; null where its "
        "operations are asked for one by one"
    )
    resident: bool
    bento_tag: str
    metrics: dict[str, Any] | None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelObject]


class PromoteRequest(Request):
    model_config = examples(
        {"alias": "movie-sentiment"},
        {"alias": "movie-sentiment", "metric": "accuracy", "at_least": 0.8},
    )

    alias: Annotated[str, Field(min_length=1, max_length=63, json_schema_extra={"pattern": ALIAS})]
    metric: str | None = Field(default=None, description="a held-out figure of the model, for the gate")
    at_least: float | None = Field(
        default=None, allow_inf_nan=False, description="refuse a figure below; not of errors and losses"
    )
    beats_current: bool = Field(
        default=False, description="refuse a figure not better than that of the model now promoted"
    )


class AliasObject(BaseModel):
    object: Literal["alias"] = "alias"
    id: str
    model: str
    changed_at: Time
    previous: str | None = Field(description="the model that a roll-back would go to")


class AliasList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AliasObject]
