"""The engine at its bounds: a full queue, a broken batch, a late answer, a client that left, a stop."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from model.tokenizer import Encoding
from service.engine import engine as engine_module
from service.engine.engine import Engine, in_bulk
from service.engine.runner import LoadedModel
from service.errors import Busy, TimedOut, TooLarge, Unavailable
from service.metrics import Metrics

MODEL = LoadedModel("m", "m:1", None, None, None, "float32", "m:1")  # type: ignore[arg-type] # the runner is replaced below


def encoding(tokens: int) -> Encoding:
    ids = tuple(range(tokens))
    return Encoding.of_ids(ids)


class Gatekeeper:
    """Stands for the model: waits until opened, then answers each text with its length."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []

    def __call__(self, _: Any, __: str, encodings: list[Encoding], ___: int) -> Any:
        self.entered.set()
        assert self.open.wait(60)
        self.batches.append(len(encodings))
        if any(len(item.ids) == 13 for item in encodings):
            raise ValueError("unlucky")
        return np.array([[float(len(item.ids))] for item in encodings], dtype=np.float32)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gatekeeper:
    keeper = Gatekeeper()
    monkeypatch.setattr(engine_module, "compute", keeper)
    return keeper


@pytest.fixture
def engine(gate: Gatekeeper) -> Iterator[Engine]:
    running = Engine(
        Metrics(),
        max_queue_tokens=100,
        max_batch_tokens=64,
        max_attention_queue=1,
        max_writing_queue=4,
        timeout_seconds=60.0,
        cores=1,
    )
    running.start()
    yield running
    gate.open.set()
    running.stop()


def test_a_full_queue_is_429_for_one_text_and_for_many(engine: Engine, gate: Gatekeeper) -> None:
    async def scenario() -> None:
        running = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(5)], "me"))
        assert await asyncio.to_thread(gate.entered.wait, 60)  # the device is busy: what comes now waits
        waiting = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(50)], "me"))
        await asyncio.sleep(0)
        for texts in ([encoding(51)], [encoding(26), encoding(25)]):
            with pytest.raises(Busy, match="51 tokens do not fit beside the 50 waiting; the queue holds 100") as caught:
                await engine.submit(MODEL, "embed", texts, "me")
            assert caught.value.retry_after_seconds
        gate.open.set()
        assert [row[0] for row in [*await running, *await waiting]] == [5.0, 50.0]

    asyncio.run(scenario())


class CountingTokenizer:
    """A token a character; how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: list[str], *_: Any, **__: Any) -> list[Encoding]:
        self.calls += 1
        return [encoding(len(text)) for text in texts]


def test_what_a_full_queue_would_refuse_is_not_read_first(engine: Engine, gate: Gatekeeper) -> None:
    tokenizer: Any = CountingTokenizer()

    async def scenario() -> None:
        await engine.encode(tokenizer, ["a" * 50], 99)  # from here on it is known what a character is
        running = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(5)], "me"))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        waiting = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(60)], "me"))
        await asyncio.sleep(0)
        with pytest.raises(
            Busy, match="about 42 tokens do not fit beside the 60 waiting; the queue holds 100"
        ) as caught:
            await engine.encode(tokenizer, ["b" * 60], 99)
        assert caught.value.retry_after_seconds
        assert tokenizer.calls == 1
        await engine.encode(tokenizer, ["c" * 50], 99)  # may fit: the exact number decides
        with in_bulk():
            await engine.encode(tokenizer, ["d" * 90], 99)  # has a queue of its own
        assert tokenizer.calls == 3
        gate.open.set()
        await asyncio.gather(running, waiting)
        with pytest.raises(TooLarge, match="this request has 120 tokens; the limit is 100, send several requests"):
            await engine.encode(tokenizer, ["e" * 120], 200)  # alone: only the exact number may refuse it

    asyncio.run(scenario())


def test_a_text_the_model_cannot_read_fails_alone_and_not_its_batch(engine: Engine, gate: Gatekeeper) -> None:
    async def scenario() -> list[Any]:
        running = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(5)], "me"))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        lengths = (1, 2, 13, 3, 4)  # together in the next batch; 13 fails in any
        together = [asyncio.create_task(engine.submit(MODEL, "embed", [encoding(n)], "me")) for n in lengths]
        await asyncio.sleep(0.05)
        gate.open.set()
        await running
        return await asyncio.gather(*together, return_exceptions=True)

    one, two, unlucky, three, four = asyncio.run(scenario())
    assert [answer[0][0] for answer in (one, two, three, four)] == [1.0, 2.0, 3.0, 4.0]
    assert isinstance(unlucky, ValueError)
    assert gate.batches[:2] == [1, 5], "they did share a batch"


def test_one_text_that_fails_is_the_answer_to_its_whole_request(engine: Engine, gate: Gatekeeper) -> None:
    async def scenario() -> None:
        gate.open.set()
        with pytest.raises(ValueError, match="unlucky"):
            await engine.submit(MODEL, "embed", [encoding(13), encoding(12)], "me")
        assert (await engine.submit(MODEL, "embed", [encoding(7)], "me"))[0][0] == 7.0

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_its_room_at_once(engine: Engine, gate: Gatekeeper) -> None:
    async def scenario() -> None:
        running = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(5)], "me"))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        leaves = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(60), encoding(40)], "me"))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        stays = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(50), encoding(50)], "me"))
        await asyncio.sleep(0)
        gate.open.set()
        assert [row[0] for row in [*await running, *await stays]] == [5.0, 50.0, 50.0]

    asyncio.run(scenario())
    assert gate.batches == [1, 1, 1], "the one running, and one each: two of 50 do not fit a pass of 64"


def test_a_late_answer_is_504_and_its_waiting_texts_cost_nothing(engine: Engine, gate: Gatekeeper) -> None:
    async def scenario() -> None:
        running = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(5)], "me"))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        engine._timeout_seconds = 0.5
        with pytest.raises(TimedOut, match=r"no answer within 0\.5 s"):
            await engine.submit(MODEL, "embed", [encoding(6)], "me")
        gate.open.set()
        assert (await running)[0][0] == 5.0
        assert gate.batches == [1], "the text that timed out while it waited was never computed"
        gate.open.clear()
        with pytest.raises(TimedOut, match=r"no answer within 0\.5 s"):  # amid its pass
            await engine.submit(MODEL, "embed", [encoding(7)], "me")
        gate.open.set()
        engine._timeout_seconds = 60.0
        assert (await engine.submit(MODEL, "embed", [encoding(8)], "me"))[0][0] == 8.0

    asyncio.run(scenario())


def test_a_waiter_whose_loop_has_closed_does_not_end_the_device_thread(engine: Engine, gate: Gatekeeper) -> None:
    """A batch worker that is stopped amid its requests leaves so."""

    async def leaves(tokens: int) -> None:
        asking = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(tokens)], "me"))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async def asks() -> Any:
        return await engine.submit(MODEL, "embed", [encoding(7)], "me")

    for tokens in (5, 13):  # one is answered, one fails
        gate.open.clear()
        gate.entered.clear()
        asyncio.run(leaves(tokens))
        gate.open.set()
        assert asyncio.run(asks())[0][0] == 7.0


def test_a_stop_answers_those_who_wait(gate: Gatekeeper) -> None:
    async def scenario() -> None:
        engine = Engine(Metrics(), 100, 64, 1, 4, timeout_seconds=60.0, cores=1)
        engine.start()
        running = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(5)], "me"))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        waiting = asyncio.create_task(engine.submit(MODEL, "embed", [encoding(6)], "me"))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(asyncio.to_thread(engine.stop))
        while engine.running:
            await asyncio.sleep(0.01)
        gate.open.set()
        await stopping
        assert (await running)[0][0] == 5.0
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await engine.submit(MODEL, "embed", [encoding(6)], "me")

    asyncio.run(scenario())
