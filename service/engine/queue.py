"""A queue bounded in tokens, and the choice of the next batch. Pure Python; used by `engine.py` under its lock."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

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
    waiting: bool = field(default=True)  # False once it is in a batch, or nobody wants it any more


class TokenQueue:
    """Keys take turns, so that one busy model can't starve another; within a key owners take turns, text by text, so
    that one busy owner can't; within an owner first in, first out."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.tokens = 0  # waiting now
        self._items = 0
        self._lanes: OrderedDict[Key, OrderedDict[str, deque[Item]]] = OrderedDict()

    def __len__(self) -> int:
        return self._items

    def put_all(self, items: list[Item]) -> None:
        """Admits all or none. Raises QueueFull over the bound, the same for one item and for many."""
        wanted = sum(item.num_tokens for item in items)
        if self.tokens + wanted > self.max_tokens:
            raise QueueFull
        self.tokens += wanted
        self._items += len(items)
        for item in items:
            self._lanes.setdefault(item.key, OrderedDict()).setdefault(item.owner, deque()).append(item)

    def next_batch(self, max_batch_tokens: int) -> list[Item]:
        """The next batch of one key; empty when nothing waits. A longer item comes alone."""
        while self._lanes:
            key, owners = next(iter(self._lanes.items()))
            batch = self._fill(owners, max_batch_tokens)
            if owners:
                self._lanes.move_to_end(key)  # the next key has its turn
            else:
                del self._lanes[key]
            if batch:
                return batch
        return []

    def _fill(self, owners: "OrderedDict[str, deque[Item]]", max_batch_tokens: int) -> list[Item]:
        batch: list[Item] = []
        room = max_batch_tokens
        while owners:
            owner, lane = next(iter(owners.items()))
            while lane and not lane[0].waiting:
                lane.popleft()
            if lane and batch and lane[0].num_tokens > room:
                break  # it is the first of the next batch
            if lane:
                item = lane.popleft()
                self._release(item)
                batch.append(item)
                room -= item.num_tokens
            if lane:
                owners.move_to_end(owner)
            else:
                del owners[owner]
        return batch

    def withdraw(self, items: Iterable[Item]) -> None:
        """Nobody wants these any more: their room is free at once. No effect on those no longer waiting."""
        for item in items:
            if item.waiting:
                self._release(item)

    def _release(self, item: Item) -> None:
        item.waiting = False
        self.tokens -= item.num_tokens
        self._items -= 1

    def drain(self) -> list[Item]:
        """Everything still waiting, and empties the queue."""
        items = [item for owners in self._lanes.values() for lane in owners.values() for item in lane if item.waiting]
        self.withdraw(items)
        self._lanes.clear()
        return items
