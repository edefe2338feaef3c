"""A queue bounded in tokens, and the choice of the next batch. Pure Python; used by `engine.py` under its lock."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

Key = tuple[Hashable, str]


class QueueFull(Exception):
    """Admitting this work would pass the bound."""


@dataclass(eq=False)
class Item:
    """One text. Items of one `key` (what computes it, and the operation) can share a batch."""

    key: Key
    owner: str
    num_tokens: int
    payload: Any


class Queued(Protocol):
    """What a queue takes: an `Item`, or a text to be written. Hashed by identity."""

    @property
    def key(self) -> Hashable: ...
    @property
    def owner(self) -> str: ...
    @property
    def num_tokens(self) -> int: ...


Waiting = TypeVar("Waiting", bound=Queued)
Lane = OrderedDict[Waiting, None]  # in order; any one can be taken out


class TokenQueue(Generic[Waiting]):
    """Keys take turns, so that one busy model can't starve another; within a key owners take turns, text by text, so
    that one busy owner can't; within an owner first in, first out."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.tokens = 0  # waiting now
        self._items = 0
        self._lanes: OrderedDict[Hashable, OrderedDict[str, Lane[Waiting]]] = OrderedDict()

    def __len__(self) -> int:
        return self._items

    def put_all(self, items: Sequence[Waiting]) -> None:
        """Admits all or none. Raises QueueFull over the bound, the same for one item and for many."""
        wanted = sum(item.num_tokens for item in items)
        if self.tokens + wanted > self.max_tokens:
            raise QueueFull
        self.tokens += wanted
        self._items += len(items)
        for item in items:
            self._lanes.setdefault(item.key, OrderedDict()).setdefault(item.owner, OrderedDict())[item] = None

    def next_batch(self, max_batch_tokens: int, room_of: Callable[[Hashable], int] | None = None) -> list[Waiting]:
        """The next batch of one key; empty when nothing waits. A longer item comes alone. `room_of` tells how many
        items of a key may be taken; one without room is passed over and keeps its turn."""
        for key, owners in self._lanes.items():
            if room := sys.maxsize if room_of is None else room_of(key):
                batch = self._fill(owners, max_batch_tokens, room)
                if owners:
                    self._lanes.move_to_end(key)  # the next key has its turn
                else:
                    del self._lanes[key]
                return batch
        return []

    def _fill(self, owners: OrderedDict[str, Lane[Waiting]], max_tokens: int, max_items: int) -> list[Waiting]:
        batch: list[Waiting] = []
        room = max_tokens
        while owners and len(batch) < max_items:
            owner, lane = next(iter(owners.items()))
            item = next(iter(lane))
            if batch and item.num_tokens > room:
                break  # it is the first of the next batch
            self._take(item, lane)
            batch.append(item)
            room -= item.num_tokens
            if lane:
                owners.move_to_end(owner)
            else:
                del owners[owner]
        return batch

    def withdraw(self, items: Iterable[Waiting]) -> None:
        """Nobody wants these any more: their room is free at once. No effect on those no longer waiting."""
        for item in items:
            owners: OrderedDict[str, Lane[Waiting]] = self._lanes.get(item.key, OrderedDict())
            lane: Lane[Waiting] = owners.get(item.owner, OrderedDict())
            if item not in lane:
                continue
            self._take(item, lane)
            if not lane:
                del owners[item.owner]
            if not owners:
                del self._lanes[item.key]

    def _take(self, item: Waiting, lane: Lane[Waiting]) -> None:
        del lane[item]
        self.tokens -= item.num_tokens
        self._items -= 1

    def drain(self) -> list[Waiting]:
        """Everything still waiting, and empties the queue."""
        items = [item for owners in self._lanes.values() for lane in owners.values() for item in lane]
        self._lanes.clear()
        self.tokens = self._items = 0
        return items
