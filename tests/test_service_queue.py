"""The queue keeps its bound, its budget and its turns."""

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.queue import Item, QueueFull, TokenQueue


def item(tokens: int, key: str = "a", owner: str = "me") -> Item:
    return Item((key, "classify"), owner, tokens, None)


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=80),
    owners=st.lists(st.sampled_from("xyz"), min_size=80, max_size=80),
    budget=st.integers(100, 2000),
)
def test_every_item_comes_out_once_in_batches_within_the_budget(
    lengths: list[int], owners: list[str], budget: int
) -> None:
    queue: TokenQueue[Item] = TokenQueue(10**9)
    items = [item(length, owner=owner) for length, owner in zip(lengths, owners, strict=False)]
    queue.put_all(items)
    assert (len(queue), queue.tokens) == (len(items), sum(lengths))
    seen: list[Item] = []
    while batch := queue.next_batch(budget):
        assert len(batch) == 1 or sum(entry.num_tokens for entry in batch) <= budget
        seen += batch
    assert sorted(map(id, seen)) == sorted(map(id, items))
    assert (len(queue), queue.tokens) == (0, 0)
    for owner in "xyz":  # in the order they came
        assert [entry for entry in seen if entry.owner == owner] == [entry for entry in items if entry.owner == owner]


def test_the_oldest_item_is_always_in_the_next_batch() -> None:
    queue: TokenQueue[Item] = TokenQueue(10**6)
    items = [item(length) for length in (500, 3, 3, 3, 490, 4)]
    queue.put_all(items)
    assert items[0] in queue.next_batch(1024)


def test_a_batch_is_filled_whatever_the_lengths() -> None:
    queue: TokenQueue[Item] = TokenQueue(10**6)
    queue.put_all([item(length) for length in (500, 3, 3, 3, 490, 20)])
    assert [entry.num_tokens for entry in queue.next_batch(1000)] == [500, 3, 3, 3, 490]
    assert [entry.num_tokens for entry in queue.next_batch(1000)] == [20]


def test_all_or_nothing_at_the_bound() -> None:
    queue: TokenQueue[Item] = TokenQueue(100)
    queue.put_all([item(60)])
    with pytest.raises(QueueFull):
        queue.put_all([item(30), item(20)])
    assert queue.tokens == 60
    queue.put_all([item(40)])


def test_models_take_turns() -> None:
    queue: TokenQueue[Item] = TokenQueue(10**6)
    queue.put_all([item(100, "busy") for _ in range(50)])
    queue.put_all([item(10, "quiet")])
    assert queue.next_batch(1000)[0].key[0] == "busy"
    assert queue.next_batch(1000)[0].key[0] == "quiet"


def test_a_model_without_room_is_passed_over_and_keeps_its_turn() -> None:
    queue: TokenQueue[Item] = TokenQueue(10**6)
    full, *later = [item(10, key, owner) for key, owner in (("full", "x"), ("a", "x"), ("a", "y"), ("b", "x"))]
    queue.put_all([full, *later])
    room = {full.key: 0, later[0].key: 1, later[2].key: 1}
    assert [queue.next_batch(1000, room.__getitem__) for _ in range(4)] == [[later[0]], [later[2]], [later[1]], []]
    room[full.key] = 1
    queue.put_all([item(10, "b")])
    assert queue.next_batch(1000, room.__getitem__) == [full]


def test_what_is_withdrawn_is_not_kept() -> None:
    """A model without room may wait long, while clients come and go."""
    queue: TokenQueue[Item] = TokenQueue(1000)
    kept, *gone = [item(10, "full") for _ in range(3)]
    queue.put_all([kept, *gone])
    left = [weakref.ref(entry) for entry in gone]
    queue.withdraw(gone)
    del gone
    gc.collect()
    assert [entry() for entry in left] == [None, None]
    assert queue.drain() == [kept]


def test_owners_take_turns_within_a_batch() -> None:
    """Who asked for a thousand texts at once does not keep another waiting until they are done."""
    queue: TokenQueue[Item] = TokenQueue(10**6)
    queue.put_all([item(100, owner="busy") for _ in range(1000)])
    queue.put_all([item(100, owner="quiet") for _ in range(3)])
    first = [entry.owner for entry in queue.next_batch(600)]
    assert first == ["busy", "quiet"] * 3
    assert [entry.owner for entry in queue.next_batch(600)] == ["busy"] * 6


def test_who_is_next_in_turn_stays_so_from_batch_to_batch() -> None:
    queue: TokenQueue[Item] = TokenQueue(10**6)
    for owner in "xyz":
        queue.put_all([item(100, owner=owner) for _ in range(4)])
    taken = [entry.owner for _ in range(6) for entry in queue.next_batch(250)]
    assert taken == list("xyz" * 4)


def test_what_is_withdrawn_costs_nothing_and_frees_its_room_at_once() -> None:
    queue: TokenQueue[Item] = TokenQueue(100)
    gone, kept = item(50), item(50)
    queue.put_all([gone, kept])
    queue.withdraw([gone])
    assert (len(queue), queue.tokens) == (1, 50)
    late = item(50)
    queue.put_all([late])
    assert queue.next_batch(1000) == [kept, late]
    queue.withdraw([gone, kept, late])  # too late: no effect
    assert (len(queue), queue.tokens) == (0, 0)
    assert queue.next_batch(1000) == []


def test_a_drained_queue_gives_what_waits_and_is_empty() -> None:
    queue: TokenQueue[Item] = TokenQueue(1000)
    gone, *kept = [item(50, key) for key in "aab"]
    queue.put_all([gone, *kept])
    queue.withdraw([gone])
    assert queue.drain() == kept
    assert (len(queue), queue.tokens, queue.next_batch(1000)) == (0, 0, [])
