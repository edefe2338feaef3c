"""The queue keeps its bound, its budget and its turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.queue import Item, QueueFull, TokenQueue


def item(tokens: int, key: str = "a") -> Item:
    return Item((key, "classify"), tokens, None)


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=80), budget=st.integers(300, 2000))
def test_every_item_comes_out_once_in_batches_within_the_budget(lengths: list[int], budget: int) -> None:
    queue = TokenQueue(10**9)
    items = [item(length) for length in lengths]
    queue.put_all(items)
    seen: list[Item] = []
    while batch := queue.next_batch(budget):
        assert len(batch) == 1 or len(batch) * max(entry.num_tokens for entry in batch) <= budget
        seen += batch
    assert sorted(map(id, seen)) == sorted(map(id, items))
    assert queue.tokens == 0


def test_the_oldest_item_is_always_in_the_next_batch() -> None:
    queue = TokenQueue(10**6)
    items = [item(length) for length in (500, 3, 3, 3, 490, 4)]
    queue.put_all(items)
    assert items[0] in queue.next_batch(1024)


def test_all_or_nothing_at_the_bound() -> None:
    queue = TokenQueue(100)
    queue.put_all([item(60)])
    with pytest.raises(QueueFull):
        queue.put_all([item(30), item(20)])
    assert queue.tokens == 60
    queue.put_all([item(40)])


def test_models_take_turns() -> None:
    queue = TokenQueue(10**6)
    queue.put_all([item(100, "busy") for _ in range(50)])
    queue.put_all([item(10, "quiet")])
    assert queue.next_batch(1000)[0].key[0] == "busy"
    assert queue.next_batch(1000)[0].key[0] == "quiet"


def test_cancelled_items_cost_nothing() -> None:
    queue = TokenQueue(100)
    gone, kept = item(50), item(50)
    queue.put_all([gone, kept])
    gone.cancelled = True
    assert queue.next_batch(1000) == [kept]
    assert queue.tokens == 0
