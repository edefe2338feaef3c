"""Tells other services that a job has ended: signed, repeated until taken, never to a private address unless allowed.
`WebhookStore` keeps endpoints and what is to be delivered; the worker makes `Deliveries`. The route that tests an
endpoint calls it in `Attempts` of its own.

The signature is that of Standard Webhooks, as the openai client checks it: base64 of HMAC-SHA256 over `id.time.body`.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar
from urllib.parse import urlsplit

import certifi
import httpx
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.database import Store, page
from service.errors import Busy, Conflict, InvalidRequest, NotFound, Unreachable
from service.ids import new_id
from service.tables import WebhookDelivery, WebhookEndpoint

BACK_OFF_SECONDS = (
    5.0,
    30.0,
    120.0,
    600.0,
    3600.0,
    6 * 3600.0,
    24 * 3600.0,
)  # before each next try; then it is given up
ATTEMPT_SECONDS = 10.0  # from the connection to the status
CONNECT_SECONDS = 4.0  # to connect, and as long for TLS
DELIVERIES_AT_ONCE = 8  # of as many owners
TESTS_AT_ONCE = 4
WAIT_SECONDS = 0.5
OLD_SECRET_SECONDS = 24 * 3600.0
MAX_ENDPOINTS = 20  # of one owner
log = logging.getLogger("vitrine.webhooks")
T = TypeVar("T")


class WebhookStore(Store):
    """Endpoints as an owner sees them, and what is to be delivered."""

    def create(self, owner: str, name: str, url: str, event_types: Sequence[str]) -> WebhookEndpoint:
        check_url(url)
        now = self.clock()
        endpoint = WebhookEndpoint(
            id=new_id("we"), owner=owner, name=name, url=url, event_types=list(event_types), created_at=now,
            updated_at=now, secret=_new_secret(), old_secret=None, old_until=None,
        )  # fmt: skip
        with self._database.write() as session:
            own = session.scalars(select(WebhookEndpoint.id).where(WebhookEndpoint.owner == owner)).all()
            if len(own) >= MAX_ENDPOINTS:
                raise Conflict(f"you have {len(own)} webhook endpoints, the limit is {MAX_ENDPOINTS}; delete some")
            session.add(endpoint)
        return endpoint

    def endpoints(self, owner: str, after: str | None, limit: int) -> tuple[list[WebhookEndpoint], bool]:
        """Newest first."""
        query = select(WebhookEndpoint).where(WebhookEndpoint.owner == owner)
        with self._database.read() as session:
            return page(session, query, WebhookEndpoint, after, limit)

    def get(self, owner: str, endpoint_id: str) -> WebhookEndpoint:
        with self._database.read() as session:
            return _endpoint(session, owner, endpoint_id)

    def update(self, owner: str, endpoint_id: str, **values: Any) -> WebhookEndpoint:
        if "url" in values:
            check_url(values["url"])
        with self._database.write() as session:
            endpoint = _endpoint(session, owner, endpoint_id)
            changed = {name: value for name, value in values.items() if getattr(endpoint, name) != value}
            for name, value in changed.items():
                setattr(endpoint, name, value)
            if changed:
                endpoint.updated_at = self.clock()
        return endpoint

    def rotate_secret(self, owner: str, endpoint_id: str, keep_old: bool) -> WebhookEndpoint:
        with self._database.write() as session:
            endpoint = _endpoint(session, owner, endpoint_id)
            endpoint.old_secret = endpoint.secret if keep_old else None
            endpoint.old_until = self.clock() + OLD_SECRET_SECONDS if keep_old else None
            endpoint.secret, endpoint.updated_at = _new_secret(), self.clock()
        return endpoint

    def delete(self, owner: str, endpoint_id: str) -> None:
        with self._database.write() as session:
            _endpoint(session, owner, endpoint_id)
            session.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id))
            session.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id))

    def take_due(
        self, lease_seconds: float, but_of: Collection[str] = ()
    ) -> tuple[WebhookDelivery, WebhookEndpoint] | None:
        """The delivery that has waited longest, of other owners than those, put off for as long as an attempt may take,
        so that no other worker makes it meanwhile."""
        now = self.clock()
        theirs = WebhookDelivery.endpoint_id.in_(select(WebhookEndpoint.id).where(WebhookEndpoint.owner.in_(but_of)))
        due = select(WebhookDelivery).where(WebhookDelivery.next_at <= now, WebhookDelivery.done_at.is_(None), ~theirs)
        with self._database.read() as session:  # asked twice a second: writers need not wait for that
            if session.scalars(due.limit(1)).first() is None:
                return None
        with self._database.write() as session:
            delivery = session.scalars(due.order_by(WebhookDelivery.next_at).limit(1)).first()
            if delivery is None:
                return None
            endpoint = session.get(WebhookEndpoint, delivery.endpoint_id)
            if endpoint is None:  # deleted
                session.delete(delivery)
                return None
            delivery.next_at = now + lease_seconds
            return delivery, endpoint

    def forget(self, moment: float) -> None:
        """Deliveries that were done before that moment."""
        with self._database.write() as session:
            session.execute(delete(WebhookDelivery).where(WebhookDelivery.done_at < moment))

    def settle(self, delivery_id: str, problem: str | None) -> None:
        """Records an attempt; a failed one is tried again later, the last of them no more."""
        now = self.clock()
        with self._database.write() as session:
            delivery = session.get(WebhookDelivery, delivery_id)
            if delivery is None:
                return
            delivery.attempts += 1
            delivery.problem = problem
            if problem is None or delivery.attempts > len(BACK_OFF_SECONDS):
                delivery.done_at = now
            else:
                delivery.next_at = now + BACK_OFF_SECONDS[delivery.attempts - 1]
        if problem is not None:
            log.warning("webhook delivery %s, attempt %s: %s", delivery_id, delivery.attempts, problem)


class Attempts:
    """Calls to endpoints, each in a thread that nobody else waits for; of an owner one at a time, so that one whose
    endpoints do not answer leaves room for others. To be used from one thread."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._threads = ThreadPoolExecutor(at_once, "vitrine-webhook")
        self._under_way: dict[str, Future[Any]] = {}  # by owner

    def owners(self) -> list[str]:
        """Whose are under way."""
        self._under_way = {owner: attempt for owner, attempt in self._under_way.items() if not attempt.done()}
        return list(self._under_way)

    def full(self) -> bool:
        return len(self.owners()) >= self._at_once

    def begin(self, owner: str, attempt: Callable[[], T]) -> Future[T]:
        """Raises Busy."""
        if owner in self.owners():
            message = (
                "one of your webhook endpoints is being called, which is the limit; try again when it has answered"
            )
            raise Busy(message, retry_after_seconds=round(ATTEMPT_SECONDS))
        if self.full():
            message = f"{self._at_once} webhook endpoints are being called, which is the limit; try again in a moment"
            raise Busy(message, retry_after_seconds=round(ATTEMPT_SECONDS))
        begun = self._threads.submit(attempt)
        self._under_way[owner] = begun
        return begun

    def ended_within(self, seconds: float) -> bool:
        """Whether one that is under way ends in that time."""
        return bool(self._under_way) and bool(wait(self._under_way.values(), seconds, FIRST_COMPLETED).done)

    def close(self) -> None:
        """Waits for those under way."""
        self._threads.shutdown()


class Deliveries:
    """Makes what is due, of several owners at once."""

    def __init__(self, store: WebhookStore, private_allowed: bool) -> None:
        self._store, self._private_allowed = store, private_allowed
        self._attempts = Attempts(DELIVERIES_AT_ONCE)

    def go_on(self) -> bool:
        """Begins one, or waits a moment for one to end -> whether there may be more to do at once."""
        if not self._attempts.full():
            due = self._store.take_due(3 * ATTEMPT_SECONDS, self._attempts.owners())
            if due is not None:
                self._attempts.begin(due[1].owner, lambda: self._make(*due))
                return True
        return self._attempts.ended_within(WAIT_SECONDS)

    def close(self) -> None:
        self._attempts.close()

    def _make(self, delivery: WebhookDelivery, endpoint: WebhookEndpoint) -> None:
        try:
            deliver(self._store, delivery, endpoint, self._private_allowed)
        except Exception:  # a busy database
            log.exception("webhook delivery %s is made again, as its end could not be stored", delivery.id)


def deliver(store: WebhookStore, delivery: WebhookDelivery, endpoint: WebhookEndpoint, private_allowed: bool) -> None:
    """Makes one attempt, and stores how it ended."""
    try:
        status = send(endpoint, delivery.id, delivery.body, store.clock(), private_allowed)
        problem = None if 200 <= status < 300 else f"the endpoint answered {status}"
    except Unreachable as error:
        problem = str(error)
    store.settle(delivery.id, problem)


def send(endpoint: WebhookEndpoint, event_id: str, body: str, now: float, private_allowed: bool) -> int:
    """One POST -> the status. Raises Unreachable."""
    parts = urlsplit(endpoint.url)
    try:
        host, port = _in_ascii(parts.hostname or ""), parts.port or (443 if parts.scheme == "https" else 80)
    except UnicodeError as error:  # kept by an earlier version, which took any name
        raise Unreachable(f"{endpoint.url} has a name that no host can have; change the address") from error
    address = _address(host, port, private_allowed)
    live = [endpoint.secret]
    if endpoint.old_secret and endpoint.old_until and now < endpoint.old_until:
        live.append(endpoint.old_secret)
    timestamp = str(int(now))
    headers = {
        "host": _bracketed(host) if parts.port is None else f"{_bracketed(host)}:{parts.port}",
        "content-type": "application/json",
        "user-agent": "Vitrine-Webhooks",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{sign(secret, event_id, timestamp, body)}" for secret in live),
    }
    # the very address that was looked at: names can change
    url = parts._replace(netloc=f"{_bracketed(address)}:{port}").geturl()
    try:
        return asyncio.run(_post(url, host, headers, body))
    except TimeoutError as error:
        raise Unreachable(
            f"{endpoint.url} has sent no status within {ATTEMPT_SECONDS:g} s; answer first, and work after that"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"{endpoint.url} could not be reached ({type(error).__name__}); check the address") from error


async def _post(url: str, host: str, headers: dict[str, str], body: str) -> int:
    """-> the status; what comes after it is not read. The time is that of the whole attempt: httpx counts its own anew
    with every byte. Raises TimeoutError."""
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)  # a TLS handshake cut off from outside would stay open
    async with (
        asyncio.timeout(ATTEMPT_SECONDS),
        httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False, verify=_authorities()) as client,
        client.stream("POST", url, content=body.encode(), headers=headers, extensions={"sni_hostname": host}) as answer,
    ):
        return answer.status_code


def sign(secret: str, event_id: str, timestamp: str, body: str) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{event_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def check_url(url: str) -> None:
    """Raises InvalidRequest for what is no address of a web service."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("https", "http") and parts.username is None and url.isprintable()
        fits = fits and bool(_in_ascii(parts.hostname or ""))
        _ = parts.port
    except ValueError:  # UnicodeError is one
        fits = False
    if not fits or len(url) > 2_000:
        raise InvalidRequest(f"url is {url[:200]!r}; send an http(s) address with a host and without a user", "url")


def _in_ascii(host: str) -> str:
    """As DNS, certificates and headers have a name (IDNA). Raises UnicodeError for one that no host can have."""
    return host if ":" in host else host.encode("idna").decode()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(host: str, port: int, private_allowed: bool) -> str:
    """An address of this host. Raises Unreachable when it has none, or any of them is not on the public internet: a
    service must not be made to call on its own network."""
    try:
        found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise Unreachable(f"{host} has no address ({error.strerror or error})") from error
    inside = [address for address in found if not _is_public(address)]
    if inside and not private_allowed:
        raise Unreachable(
            f"{host} is at {inside[0]}, a private address; VITRINE_WEBHOOK_PRIVATE=true allows such endpoints"
        )
    return found[0]


def _is_public(address: str) -> bool:
    number = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(number, "ipv4_mapped", None) or getattr(number, "sixtofour", None)
    return number.is_global and not number.is_multicast and (inner is None or inner.is_global)


def _authorities() -> ssl.SSLContext:
    """Who may vouch for an https endpoint: those in SSL_CERT_FILE, where a network has its own, else the usual ones."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def _endpoint(session: Session, owner: str, endpoint_id: str) -> WebhookEndpoint:
    endpoint = session.get(WebhookEndpoint, endpoint_id)
    if endpoint is None or endpoint.owner != owner:
        raise NotFound(f"webhook endpoint {endpoint_id!r} does not exist; POST /v1/webhook_endpoints makes one")
    return endpoint
