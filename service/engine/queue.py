"""A queue bounded in tokens, and the choice of the next batch. Pure Python; used by `engine.py` under its lock."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any


class QueueFull(Exception):
    """Admitting this work would pass the bound."""


@dataclass(eq=False)
class Item:
    """One text waiting. Items of one `key` (model and operation) can share a batch."""

    key: tuple[str, str]
    num_tokens: int
    payload: Any
    cancelled: bool = field(default=False)


class TokenQueue:
    """First in, first out per key; keys take turns, so that one busy model can't starve another."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self.tokens = 0  # waiting now
        self._lanes: OrderedDict[tuple[str, str], deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def put_all(self, items: list[Item]) -> None:
        """Admits all or none. Raises QueueFull over the bound, the same for one item and for many."""
        wanted = sum(item.num_tokens for item in items)
        if self.tokens + wanted > self.max_tokens:
            raise QueueFull
        self.tokens += wanted
        for item in items:
            self._lanes.setdefault(item.key, deque()).append(item)

    def next_batch(self, max_batch_tokens: int) -> list[Item]:
        """The next batch of one key, cancelled items dropped; empty when nothing waits.

        Looks at the items at the front of the lane that fit the budget as if unpadded, sorts them by length and
        takes the group of similar lengths that holds the oldest item, so that nobody is passed over twice.
        """
        while self._lanes:
            key, lane = next(iter(self._lanes.items()))
            live = deque(item for item in lane if not item.cancelled)
            self.tokens -= sum(item.num_tokens for item in lane if item.cancelled)
            if not live:
                del self._lanes[key]
                continue
            batch = _fitting_group(live, max_batch_tokens)
            chosen = {id(item) for item in batch}
            rest = deque(item for item in live if id(item) not in chosen)
            self.tokens -= sum(item.num_tokens for item in batch)
            del self._lanes[key]
            if rest:
                self._lanes[key] = rest  # to the back: the next key has its turn
            return batch
        return []

    def drain(self) -> list[Item]:
        """Everything still waiting, and empties the queue."""
        items = [item for lane in self._lanes.values() for item in lane]
        self._lanes.clear()
        self.tokens = 0
        return items


def _fitting_group(lane: deque[Item], max_batch_tokens: int) -> list[Item]:
    oldest = lane[0]
    window: list[Item] = []
    total = 0
    for item in lane:
        total += item.num_tokens
        if window and total > 2 * max_batch_tokens:
            break
        window.append(item)
    window.sort(key=lambda item: item.num_tokens)
    group = [oldest]
    start = end = window.index(oldest)
    while True:  # grow towards the neighbour that is closer in length, while rows x longest stays in the budget
        rows, longest = len(group) + 1, window[end].num_tokens
        below = window[start - 1] if start > 0 else None
        above = window[end + 1] if end + 1 < len(window) else None
        if below is not None and rows * longest <= max_batch_tokens:
            start -= 1
            group.append(below)
        elif above is not None and rows * above.num_tokens <= max_batch_tokens:
            end += 1
            group.append(above)
        else:
            return group
