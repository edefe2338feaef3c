"""What webhook endpoints are told: queued in the very transaction that makes it true, so that nothing is announced that
did not happen, and nothing that did is forgotten. Used by `store.py`; `service/webhooks.py` delivers.
"""

import json

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.ids import new_id
from service.tables import WebhookDelivery, WebhookEndpoint

EVENT_TYPES = (
    *(f"fine_tuning.job.{state}" for state in ("succeeded", "failed", "cancelled")),
    *(f"batch.{state}" for state in ("completed", "failed", "expired", "cancelled")),
)


def announce(session: Session, kind: str, subject: str, owner: str | None, now: float) -> None:
    """One delivery for each endpoint of the owner that wants this kind of event, about the thing with this id."""
    for endpoint in session.scalars(select(WebhookEndpoint).where(WebhookEndpoint.owner == owner)):
        if kind in endpoint.event_types:
            event_id = new_id("evt")
            delivery = WebhookDelivery(
                id=event_id, endpoint_id=endpoint.id, body=event_body(event_id, kind, now, subject), created_at=now,
                next_at=now, attempts=0, done_at=None, problem=None,
            )  # fmt: skip
            session.add(delivery)


def event_body(event_id: str, kind: str, created_at: float, subject: str) -> str:
    event = {"id": event_id, "object": "event", "type": kind, "created_at": int(created_at), "data": {"id": subject}}
    return json.dumps(event)
