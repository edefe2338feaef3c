"""Who sends a request: by a key in `Authorization: Bearer`, or by the cookie of a browser that has logged in with one.
Used by `gate.py`; the routes see a `Caller`.

While no key was ever made, everyone is the owner "local" and may do everything: for one user on one machine.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers

from service.errors import Busy, Forbidden, Unauthorized
from service.keys import OPEN, Caller, KeyStore

COOKIE = "vitrine_session"
TRUST_SECONDS = 2.0  # how long an answer of the database is good: a revoked key works no longer than this
NO_GOOD_KEY = "the API key is not known, was revoked or has expired; `vitrine keys create` makes one"
MAX_KNOWN = 10_000  # answers kept
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
TRAIN_PATHS = (
    "/v1/files",
    "/v1/fine_tuning",
    "/v1/models",
    "/v1/aliases",
    "/v1/webhook_endpoints",
)  # changing these takes the scope "train", all else "infer"


class Auth:
    """One an API process."""

    def __init__(self, keys: KeyStore, requests_per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._closed_at: float | None = None  # when a key was first seen to exist; keys are never forgotten
        self._open_until = 0.0
        self._known: dict[tuple[str, str], tuple[float, Caller | None]] = {}
        self._limit = requests_per_minute
        self._allowance: dict[str, tuple[float, float]] = {}  # by owner: requests left, as of when

    async def caller(self, method: str, path: str, headers: Headers, server: str) -> Caller:
        """`server` is the address at which the request arrived. Raises Unauthorized without a good key, Forbidden for
        one that does not reach, Busy over the rate."""
        if not path.startswith("/v1/"):
            return OPEN
        if await self._is_open():
            if _is_outside(server):
                raise Forbidden(
                    f"this service has no API keys yet, so it answers its own machine alone, not at {server}; run "
                    "`vitrine keys create --owner NAME` there, or start it with VITRINE_FIRST_KEY_OWNER=NAME"
                )
            return OPEN
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and secret.strip():
            caller = await self._look_up("key", secret.strip())
            if caller is None:
                raise Unauthorized(NO_GOOD_KEY)
        elif token := cookie_of(headers):
            caller = await self._look_up("session", token)
            if caller is None:
                raise Unauthorized("the session is over; log in again with an API key")
            if method not in SAFE_METHODS:
                _check_same_site(headers)
        else:
            raise Unauthorized("this service needs an API key; send it as 'Authorization: Bearer vt-...'")
        scope = "train" if method not in SAFE_METHODS and path.startswith(TRAIN_PATHS) else "infer"
        if scope not in caller.scopes and not (scope == "infer" and method in SAFE_METHODS):
            raise Forbidden(f"the API key lacks the scope {scope!r}; it has {', '.join(sorted(caller.scopes))}")
        self._count(caller.owner)
        return caller

    def forget(self) -> None:
        """After a login or logout: the next request asks the database."""
        self._known.clear()

    async def _is_open(self) -> bool:
        if self._closed_at is not None:
            return False
        now = self._clock()
        if now >= self._open_until:
            if await asyncio.to_thread(self._keys.exist):
                self._closed_at = now
                return False
            self._open_until = now + TRUST_SECONDS
        return True

    async def _look_up(self, kind: str, secret: str) -> Caller | None:
        found = self._known.get((kind, secret))
        now = self._clock()
        if found is not None and now < found[0]:
            return found[1]
        ask = self._keys.caller if kind == "key" else self._keys.session_caller
        caller = await asyncio.to_thread(ask, secret)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[kind, secret] = (now + TRUST_SECONDS, caller)
        return caller

    def _count(self, owner: str) -> None:
        """A bucket that holds a minute's requests and fills evenly."""
        if not self._limit:
            return
        now = self._clock()
        most = max(1.0, self._limit)  # a limit below one a minute lets one through now and then
        left, since = self._allowance.get(owner, (most, now))
        left = min(most, left + (now - since) * self._limit / 60.0)
        if left < 1.0:
            self._allowance[owner] = (left, now)
            wait = (1.0 - left) * 60.0 / self._limit
            raise Busy(
                f"more than {self._limit:g} requests a minute came from {owner!r}; wait {wait:.1f} s",
                code="rate_limit_exceeded",
                retry_after_seconds=max(1, round(wait + 0.5)),
            )
        self._allowance[owner] = (left - 1.0, now)


def _is_outside(server: str) -> bool:
    """Whether others than this machine reach that address; names are those of sockets and of tests."""
    try:
        return not ipaddress.ip_address(server).is_loopback
    except ValueError:
        return False


def cookie_of(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None and found.value else None


def _check_same_site(headers: Headers) -> None:
    """A cookie comes with requests that other pages make a browser send; they can't choose the Origin."""
    host, origin = headers.get("host", ""), headers.get("origin", "")
    if origin.partition("://")[2].lower() != host.lower():
        raise Forbidden(
            f"Origin {origin!r} is not this service ({host!r}); a browser's session changes things from our own page "
            "alone, programs send an API key"
        )
