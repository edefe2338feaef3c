"""Texts being written: whose turn it is, which share a step, and what becomes of those whose client has left."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from model.generation import Sampling, Writing, write_all
from model.lora import AdapterBank
from model.tokenizer import Tokenizer, train_byte_bpe
from service.engine.engine import Engine
from service.engine.runner import LoadedModel
from service.engine.writer import MAX_ROWS, Order, Writer, new_orders
from service.errors import Busy
from service.metrics import Metrics
from service.routes.completions import _Reply, _Text
from service.schemas.completions import CompletionRequest
from tests.small import random_model, small_config

WAIT_SECONDS = 60
LONG = Sampling(max_tokens=60, temperature=0.0)
MAX_WAITING = 4


def model(name: str, seed: int = 0, tokenizer: Tokenizer | None = None) -> LoadedModel:
    """That never ends a text by itself."""
    config = small_config("decoder", bos_id=None, eos_id=None, vocab_size=300)
    bank = AdapterBank(random_model(config, seed))
    return LoadedModel(name, f"{name}:1", config, bank, tokenizer, "float32", f"{name}:1")  # type: ignore[arg-type] # reads no text


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
    writer.withdraw(many[:2])
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


class Turns:
    """Holds the writer at its next turn until it is opened."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self._turn = engine._writer.turn
        monkeypatch.setattr(engine._writer, "turn", self)

    def __call__(self, prompts: Sequence[Order]) -> None:
        self.entered.set()
        assert self.open.wait(WAIT_SECONDS)
        self._turn(prompts)


@pytest.fixture
def turns(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    made = Turns(engine, monkeypatch)
    yield made
    made.open.set()


async def becomes(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not true():
            await asyncio.sleep(0.005)


def depth(engine: Engine) -> float | None:
    return engine._metrics.registry.get_sample_value("vitrine_queue_depth", {"lane": "write"})


async def read(events: Any) -> list[Any]:
    return [event async for event in events]


def test_texts_of_a_client_that_left_free_their_room_at_once(engine: Engine, turns: Turns) -> None:
    loaded = model("m")

    def ask(count: int) -> "asyncio.Task[list[Any]]":
        made = new_orders(loaded, [Writing([1, 2, 3], Sampling(max_tokens=2)) for _ in range(count)], 1, "me")
        return asyncio.create_task(read(engine.write(made)))

    async def scenario() -> None:
        running = ask(1)
        assert await asyncio.to_thread(turns.entered.wait, WAIT_SECONDS)  # what comes now waits
        gone = ask(MAX_WAITING)
        await becomes(lambda: engine._writer.waiting == MAX_WAITING)
        assert depth(engine) == MAX_WAITING
        with pytest.raises(Busy, match="1 texts to write do not fit beside the 4 waiting; the queue holds 4"):
            await ask(1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (engine._writer.waiting, depth(engine)) == (0, 0)
        later = ask(MAX_WAITING)
        await becomes(lambda: engine._writer.waiting == MAX_WAITING)
        turns.open.set()
        assert sum(len(written.ids) for written in [*await running, *await later]) == 2 * (1 + MAX_WAITING)

    asyncio.run(scenario())
    assert depth(engine) == 0


def test_a_stream_that_is_closed_frees_its_room_at_once(engine: Engine, turns: Turns) -> None:
    tokenizer = train_byte_bpe(["the film"], 300)
    loaded = model("m", tokenizer=tokenizer)
    body = CompletionRequest(model="m", prompt="the", stream=True)

    async def scenario() -> None:
        turns.open.set()
        made = new_orders(loaded, [Writing([1, 2, 3], LONG)], 1, "me")
        events = engine.write(made)
        reply = _Reply(body, made, [_Text(tokenizer, [], "")], 3)
        stream: Any = reply.stream(await anext(events), events)
        await anext(stream)
        assert not made[0].cancelled
        await stream.aclose()
        assert made[0].cancelled
        assert events.ag_frame is None  # at its end, not left to whoever collects what is forgotten
        await becomes(lambda: not engine._writer.busy)

    asyncio.run(scenario())
