"""API keys and browser sessions: made, checked, revoked. Only their hashes are stored. Used by `auth.py` and the
command line.

A key has 192 random bits, so that one round of SHA-256 is enough: what can't be guessed need not be slow to check.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from service.database import Store
from service.errors import Conflict, InvalidRequest, NotFound
from service.tables import LOCAL_OWNER, ApiKey, BrowserSession

KEY_PREFIX = "vt-"
SCOPES = ("infer", "train")  # ask models; change files, jobs and models
SESSION_SECONDS = 12 * 3600.0
MAX_OWNER_LETTERS = 64


@dataclass(frozen=True)
class Caller:
    """Who sends a request, and what they may do."""

    owner: str
    scopes: frozenset[str]
    key_id: str | None


OPEN = Caller(LOCAL_OWNER, frozenset(SCOPES), None)  # while no key was ever made


class KeyStore(Store):
    """In the database of the service."""

    def create(
        self, owner: str, scopes: Sequence[str] = SCOPES, lives_seconds: float | None = None
    ) -> tuple[ApiKey, str]:
        """-> the stored row, and the key itself, which nobody can read again."""
        row, key = self._made(owner, scopes, lives_seconds)
        with self._database.write() as session:
            session.add(row)
        return row, key

    def create_first(self, owner: str) -> str | None:
        """A key for this owner when none was ever made, by this process or another; None when there is one."""
        with self._database.write() as session:
            if session.scalar(select(func.count()).select_from(ApiKey)):
                return None
            row, key = self._made(owner, SCOPES, None)
            session.add(row)
        return key

    def all(self) -> list[ApiKey]:
        """All that were ever made, oldest first."""
        with self._database.read() as session:
            return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id)))

    def exist(self) -> bool:
        """Whether any was ever made: from then on the service is closed, even when all of them are revoked."""
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(ApiKey)) != 0

    def revoke(self, key_id: str) -> None:
        with self._database.write() as session:
            row = session.get(ApiKey, key_id)
            if row is None:
                raise NotFound(f"key {key_id!r} does not exist; see `vitrine keys list`", "key")
            if row.revoked_at is not None:
                raise Conflict(f"key {key_id} was revoked before")
            row.revoked_at = self.clock()
            session.execute(delete(BrowserSession).where(BrowserSession.key_id == key_id))

    def caller(self, key: str) -> Caller | None:
        """Whose key it is; None for one that is unknown, expired or revoked."""
        with self._database.read() as session:
            row = session.scalars(select(ApiKey).where(ApiKey.hash == _hash(key))).first()
        return self._caller(row)

    def begin_session(self, key: str) -> str | None:
        """A browser's way in -> the token for its cookie; None when the key is not good."""
        caller = self.caller(key)
        if caller is None or caller.key_id is None:
            return None
        token, now = secrets.token_urlsafe(24), self.clock()
        with self._database.write() as session:
            session.execute(delete(BrowserSession).where(BrowserSession.expires_at < now))
            row = BrowserSession(hash=_hash(token), key_id=caller.key_id, expires_at=now + SESSION_SECONDS)
            session.add(row)
        return token

    def session_caller(self, token: str) -> Caller | None:
        with self._database.read() as session:
            found = session.get(BrowserSession, _hash(token))
            if found is None or found.expires_at < self.clock():
                return None
            row = session.get(ApiKey, found.key_id)
        return self._caller(row)

    def end_session(self, token: str) -> None:
        with self._database.write() as session:
            session.execute(delete(BrowserSession).where(BrowserSession.hash == _hash(token)))

    def _made(self, owner: str, scopes: Sequence[str], lives_seconds: float | None) -> tuple[ApiKey, str]:
        if not owner or len(owner) > MAX_OWNER_LETTERS or not owner.isprintable():
            raise InvalidRequest(f"owner is {owner!r}; choose 1 to {MAX_OWNER_LETTERS} printable characters", "owner")
        strangers = sorted(set(scopes) - set(SCOPES))
        if strangers or not scopes:
            raise InvalidRequest(f"scopes {strangers} are not known; choose some of {', '.join(SCOPES)}", "scopes")
        if lives_seconds is not None and lives_seconds <= 0:
            raise InvalidRequest(f"the key would live {lives_seconds:g} s; choose a time above 0", "expires")
        key, now = KEY_PREFIX + secrets.token_urlsafe(24), self.clock()
        expires_at = None if lives_seconds is None else now + lives_seconds
        row = ApiKey(
            id=f"key-{secrets.token_hex(6)}", owner=owner, hash=_hash(key), scopes=list(scopes), created_at=now,
            expires_at=expires_at, revoked_at=None,
        )  # fmt: skip
        return row, key

    def _caller(self, row: ApiKey | None) -> Caller | None:
        if row is None or row.revoked_at is not None:
            return None
        if row.expires_at is not None and row.expires_at < self.clock():
            return None
        return Caller(row.owner, frozenset(row.scopes), row.id)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
