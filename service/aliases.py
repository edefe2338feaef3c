"""Names that stand for one version of a model, and are moved in one step: promoted to another, or rolled back. Used by
the routes; `Names` turns a name into a model's id for every request.
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import aliased

from service.database import Store
from service.errors import Conflict, InvalidRequest, NotFound
from service.tables import Alias, AliasChange

ALIAS = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")
TRUST_SECONDS = 1.0  # how long other API processes may go on with what a name stood for


@dataclass(frozen=True)
class Named:
    """What a name stands for now."""

    name: str
    model: str
    changed_at: float
    previous: str | None  # where a roll-back would go


class AliasStore(Store):
    """In the database of the service. Each owner has names of their own."""

    def all(self, owner: str) -> list[Named]:
        """By name."""
        with self._database.read() as session:
            before = aliased(AliasChange)
            now = select(AliasChange, before.model).join(Alias, Alias.change == AliasChange.number)
            now = now.outerjoin(before, before.number == AliasChange.before).where(Alias.owner == owner)
            found = session.execute(now.order_by(Alias.name)).all()
        return [Named(change.name, change.model, change.created_at, previous) for change, previous in found]

    def promote(self, owner: str, name: str, model: str) -> Named:
        """From here on the name stands for this model. Raises InvalidRequest for a name that can't be one, Conflict
        when it stands for the model already."""
        if not ALIAS.fullmatch(name):
            raise InvalidRequest(
                f"alias {name!r} can't be used; take at most 63 lower-case letters, digits, '_', '-' and '.', with a "
                "letter or digit at both ends",
                "alias",
            )
        with self._database.write() as session:
            alias = session.get(Alias, (owner, name))
            before = session.get_one(AliasChange, alias.change) if alias is not None else None
            if before is not None and before.model == model:
                raise Conflict(f"{name} stands for {model} already", "alias")
            change = AliasChange(
                owner=owner, name=name, model=model, before=before.number if before else None, created_at=self.clock()
            )
            session.add(change)
            session.flush()
            session.merge(Alias(owner=owner, name=name, change=change.number))
            return Named(name, model, change.created_at, before.model if before else None)

    def roll_back(self, owner: str, name: str, exists: Callable[[str], bool]) -> Named:
        """The name stands again for the last model before this one that still exists. Raises NotFound, and Conflict
        when there is none."""
        with self._database.write() as session:
            alias = session.get(Alias, (owner, name))
            if alias is None:
                raise _unknown(name)
            now = session.get_one(AliasChange, alias.change)
            earlier = now
            while earlier.before is not None:
                earlier = session.get_one(AliasChange, earlier.before)
                if earlier.model != now.model and exists(earlier.model):
                    break
            else:
                raise Conflict(f"{name} has stood for nothing before {now.model} that still exists", "alias")
            change = AliasChange(
                owner=owner, name=name, model=earlier.model, before=earlier.before, created_at=self.clock()
            )
            session.add(change)
            session.flush()
            alias.change = change.number
            previous = session.get_one(AliasChange, earlier.before).model if earlier.before is not None else None
            return Named(name, change.model, change.created_at, previous)

    def remove(self, owner: str, name: str) -> None:
        with self._database.write() as session:
            if session.get(Alias, (owner, name)) is None:
                raise _unknown(name)
            session.execute(delete(AliasChange).where(AliasChange.owner == owner, AliasChange.name == name))
            session.execute(delete(Alias).where(Alias.owner == owner, Alias.name == name))

    def of_model(self, model: str) -> list[str]:
        """The names, of any owner, that stand for this model."""
        with self._database.read() as session:
            held = select(AliasChange.name).join(Alias, Alias.change == AliasChange.number)
            return list(session.scalars(held.where(AliasChange.model == model)))


class Names:
    """What each owner's names stand for, remembered for a moment, one an API process."""

    def __init__(self, store: AliasStore, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self._clock = clock
        self._known: dict[str, tuple[float, dict[str, str]]] = {}

    async def model(self, name: str, owner: str, fresh: bool = False) -> str:
        """The id of the model that is meant; a name that is no alias means itself."""
        known = self._known.get(owner)
        if fresh or known is None or self._clock() >= known[0]:
            aliases = await asyncio.to_thread(self.store.all, owner)
            known = (self._clock() + TRUST_SECONDS, {alias.name: alias.model for alias in aliases})
            self._known[owner] = known
        return known[1].get(name, name)

    def forget(self) -> None:
        self._known.clear()


def _unknown(name: str) -> NotFound:
    return NotFound(
        f"alias {name!r} does not exist; POST /v1/models/MODEL/promote makes one", "alias", "alias_not_found"
    )
