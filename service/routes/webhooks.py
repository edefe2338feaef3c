"""`/v1/webhook_endpoints`: addresses that are told when a job has ended, in OpenAI's shape."""

import asyncio
import time

from fastapi import APIRouter

from service.context import CallerOf, PartsOf
from service.ids import new_id
from service.jobs.announce import event_body
from service.routes.answers import refusals
from service.routes.names import After, EndpointId, Limit
from service.schemas.base import Deleted
from service.schemas.webhooks import (
    CreateWebhookRequest,
    RotateSecretRequest,
    TestWebhookRequest,
    UpdateWebhookRequest,
    WebhookList,
    WebhookObject,
    WebhookObjectWithSecret,
    WebhookTestResult,
)
from service.tables import WebhookEndpoint
from service.webhooks import send

router = APIRouter(prefix="/v1/webhook_endpoints", tags=["webhooks"])
HINT_LETTERS = 4


@router.post("", operation_id="create_webhook_endpoint", responses=refusals(409))
async def create_endpoint(body: CreateWebhookRequest, parts: PartsOf, caller: CallerOf) -> WebhookObjectWithSecret:
    """From here on the address is told; the answer has its signing secret, which is shown this once."""
    create = parts.webhooks.create
    return _with_secret(await asyncio.to_thread(create, caller.owner, body.name, body.url, body.event_types))


@router.get("", operation_id="list_webhook_endpoints", responses=refusals(404))
async def list_endpoints(
    parts: PartsOf,
    caller: CallerOf,
    after: After = None,
    limit: Limit = 20,
) -> WebhookList:
    """Newest first."""
    found, has_more = await asyncio.to_thread(parts.webhooks.endpoints, caller.owner, after, limit)
    first, last = (found[0].id, found[-1].id) if found else (None, None)
    return WebhookList(data=[_shape(one) for one in found], has_more=has_more, first_id=first, last_id=last)


@router.get("/{endpoint_id}", operation_id="get_webhook_endpoint", responses=refusals(404))
async def get_endpoint(endpoint_id: EndpointId, parts: PartsOf, caller: CallerOf) -> WebhookObject:
    """One endpoint, without its secret."""
    return _shape(await asyncio.to_thread(parts.webhooks.get, caller.owner, endpoint_id))


@router.post("/{endpoint_id}", operation_id="update_webhook_endpoint", responses=refusals(404))
async def update_endpoint(
    endpoint_id: EndpointId, body: UpdateWebhookRequest, parts: PartsOf, caller: CallerOf
) -> WebhookObject:
    """Changes what is given, leaves the rest."""
    values = body.model_dump(exclude_none=True)
    return _shape(await asyncio.to_thread(lambda: parts.webhooks.update(caller.owner, endpoint_id, **values)))


@router.delete("/{endpoint_id}", operation_id="delete_webhook_endpoint", responses=refusals(404))
async def delete_endpoint(endpoint_id: EndpointId, parts: PartsOf, caller: CallerOf) -> Deleted:
    """The address is told no more, not even of what still waits."""
    await asyncio.to_thread(parts.webhooks.delete, caller.owner, endpoint_id)
    return Deleted(id=endpoint_id, object="webhook_endpoint.deleted")


@router.post("/{endpoint_id}/rotate_secret", operation_id="rotate_webhook_secret", responses=refusals(404))
async def rotate_secret(
    endpoint_id: EndpointId, parts: PartsOf, caller: CallerOf, body: RotateSecretRequest | None = None
) -> WebhookObjectWithSecret:
    """A new signing secret; the old one may go on beside it for a day."""
    keep_old = body is not None and body.keep_old_secret_active_for_24_hours
    return _with_secret(await asyncio.to_thread(parts.webhooks.rotate_secret, caller.owner, endpoint_id, keep_old))


@router.post("/{endpoint_id}/test", operation_id="test_webhook_endpoint", responses=refusals(404, 424))
async def test_endpoint(
    endpoint_id: EndpointId, body: TestWebhookRequest, parts: PartsOf, caller: CallerOf
) -> WebhookTestResult:
    """Sends a made-up event at once and tells the answer's status; 424 when the address can't be reached or has sent no
    status within 10 s. One at a time for an owner."""
    endpoint = await asyncio.to_thread(parts.webhooks.get, caller.owner, endpoint_id)
    event_id, now = new_id("evt"), time.time()
    sample = event_body(event_id, body.event_type, now, "ftjob-test")
    private = parts.settings.webhook_private
    attempt = parts.webhook_tests.begin(caller.owner, lambda: send(endpoint, event_id, sample, now, private))
    status = await asyncio.wrap_future(attempt)
    return WebhookTestResult(event_type=body.event_type, status_code=status, webhook_endpoint_id=endpoint_id)


def _fields(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {
        "id": endpoint.id,
        "created_at": int(endpoint.created_at),
        "updated_at": int(endpoint.updated_at),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "signing_secret_hint": f"whsec_...{endpoint.secret[-HINT_LETTERS:]}",
    }


def _shape(endpoint: WebhookEndpoint) -> WebhookObject:
    return WebhookObject.model_validate(_fields(endpoint))


def _with_secret(endpoint: WebhookEndpoint) -> WebhookObjectWithSecret:
    return WebhookObjectWithSecret.model_validate(_fields(endpoint) | {"signing_secret": endpoint.secret})
