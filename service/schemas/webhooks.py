"""Schemas of `routes/webhooks.py`: addresses that are told."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from service.schemas.base import Request, Time, examples

WebhookEventType = Literal[
    "fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled", "batch.completed",
    "batch.failed", "batch.expired", "batch.cancelled",
]  # fmt: skip

WebhookName = Annotated[str, Field(min_length=1, max_length=100)]

WebhookUrl = Annotated[str, Field(min_length=1, max_length=2_000, json_schema_extra={"format": "uri"})]

WebhookEventTypes = Annotated[list[WebhookEventType], Field(min_length=1, max_length=10)]


class CreateWebhookRequest(Request):
    model_config = examples(
        {
            "name": "builds",
            "url": "https://example.com/hook",
            "event_types": ["fine_tuning.job.succeeded", "fine_tuning.job.failed"],
        },
    )

    name: WebhookName
    url: WebhookUrl
    event_types: WebhookEventTypes


class UpdateWebhookRequest(Request):
    model_config = examples(
        {"name": "builds of the night"},
    )

    name: WebhookName | None = None
    url: WebhookUrl | None = None
    event_types: WebhookEventTypes | None = None


class RotateSecretRequest(Request):
    model_config = examples(
        {"keep_old_secret_active_for_24_hours": True},
    )

    keep_old_secret_active_for_24_hours: bool = False


class TestWebhookRequest(Request):
    model_config = examples(
        {"event_type": "fine_tuning.job.succeeded"},
    )

    event_type: WebhookEventType


class WebhookObject(BaseModel):
    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: Time
    updated_at: Time
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str


class WebhookObjectWithSecret(WebhookObject):
    signing_secret: str


class WebhookList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WebhookObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class WebhookTestResult(BaseModel):
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    event_type: str
    status_code: int
    success: Literal[True] = True
    webhook_endpoint_id: str
