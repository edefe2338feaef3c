"""Texts being written: whose turn it is, and which share a step."""

import asyncio
from collections.abc import Iterator

import pytest

from model.generation import Sampling, Writing, write_all
from model.lora import AdapterBank
from service.engine.engine import Engine
from service.engine.runner import LoadedModel
from service.engine.writer import MAX_ROWS, Order, Writer, new_orders
from service.metrics import Metrics
from tests.small import random_model, small_config

WAIT_SECONDS = 60
LONG = Sampling(max_tokens=60, temperature=0.0)
MAX_WAITING = 4


def model(name: str, seed: int = 0) -> LoadedModel:
    """That never ends a text by itself."""
    config = small_config("decoder", bos_id=None, eos_id=None, vocab_size=300)
    bank = AdapterBank(random_model(config, seed))
    return LoadedModel(name, f"{name}:1", config, bank, None, "float32", f"{name}:1")  # type: ignore[arg-type] # reads no text


def orders(loaded: LoadedModel, count: int, owner: str = "me", num_beams: int = 1) -> list[Order]:
    async def make() -> list[Order]:  # their loop is not asked for anything
        return new_orders(loaded, [Writing([1, 2, 3], LONG) for _ in range(count)], num_beams, owner)

    return asyncio.run(make())


@pytest.fixture
def writer() -> Writer:
    return Writer(Metrics(), 2_048)


def grow(writer: Writer) -> list[Order]:
    """One turn -> the prompts that it took."""
    taken = writer.take()
    writer.turn(taken)
    return taken


def test_a_model_whose_rows_are_full_does_not_keep_another_waiting(writer: Writer) -> None:
    busy, quiet = model("busy"), model("quiet")
    many, one = orders(busy, 128), orders(quiet, 1)
    writer.put(many)
    assert grow(writer) == many[:MAX_ROWS]
    writer.put(one)
    assert grow(writer) == one
    assert grow(writer) == [], "what still waits is for the model without a free row"
    assert writer.waiting == len(many) - MAX_ROWS
    for order in many[:2]:
        order.cancelled = True
    grow(writer)
    assert grow(writer) == many[MAX_ROWS : MAX_ROWS + 2]


def test_owners_take_turns(writer: Writer) -> None:
    shared = model("shared")
    greedy, modest = orders(shared, 128, "greedy"), orders(shared, 3, "modest")
    writer.put(greedy)
    writer.put(modest)
    taken = grow(writer)
    assert [order.owner for order in taken[:6]] == ["greedy", "modest"] * 3
    assert [order for order in taken if order.owner == "greedy"] == greedy[: MAX_ROWS - 3]


def test_beams_take_rows_of_their_own_model_alone(writer: Writer) -> None:
    searched, other = model("searched"), model("other")
    beams = orders(searched, MAX_ROWS, num_beams=2)
    writer.put(beams)
    assert grow(writer) == beams
    more, others = orders(searched, 1), orders(other, MAX_ROWS)
    writer.put([*more, *others])
    assert grow(writer) == others
    assert grow(writer) == []


@pytest.fixture
def engine() -> Iterator[Engine]:
    running = Engine(Metrics(), 1_000, 2_048, 1, MAX_WAITING, WAIT_SECONDS, cores=1)
    running.start()
    yield running
    running.stop()


def test_two_copies_of_one_model_share_no_step(engine: Engine) -> None:
    """One was dropped from memory while it wrote, and read anew: what is over one base is not over the other."""
    copies = [model("twice", seed) for seed in (1, 2)]  # of other weights, so that it shows
    sampling = Sampling(max_tokens=12, temperature=0.0)
    expected = []
    for copy in copies:
        writing = Writing([1, 2, 3], sampling)
        write_all(copy.model, [writing])
        expected.append(writing.ids)
    assert expected[0] != expected[1]

    async def text(copy: LoadedModel) -> list[int]:
        made = new_orders(copy, [Writing([1, 2, 3], sampling)], 1, "me")
        return [number async for written in engine.write(made) for number in written.ids]

    async def both() -> list[list[int]]:
        return list(await asyncio.gather(*map(text, copies)))

    assert asyncio.run(both()) == expected
