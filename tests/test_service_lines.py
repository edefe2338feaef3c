"""The threads beside the device's: texts read into tokens, looks inside a model; at their bounds, and when they stop."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from model.tokenizer import Encoding, Text
from service.engine import reading
from service.engine.engine import in_bulk
from service.engine.looking import Looker
from service.engine.reading import Reader
from service.errors import Busy, TimedOut, TooLarge, Unavailable
from service.metrics import Metrics


class Gate:
    """Keeps a thread until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.never = threading.Event()

    def pass_through(self) -> None:
        self.entered.set()
        assert self.open.wait(60)


class GatedTokenizer:
    """A token a character, once the gate is open; "poison" can't be read."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.calls: list[int] = []  # texts of each

    def encode(self, texts: Sequence[Text], *_: Any, **__: Any) -> list[Encoding]:
        self.gate.pass_through()
        self.calls.append(len(texts))
        if "poison" in texts:
            raise ValueError("poisoned")
        return [Encoding.of_ids(range(len(text))) for text in texts]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def reader(gate: Gate) -> Iterator[Reader]:
    running = Reader(max_characters=20)
    running.start()
    yield running
    gate.open.set()
    running.stop()


@pytest.fixture
def looker(gate: Gate) -> Iterator[Looker]:
    running = Looker(Metrics(), max_waiting=1, timeout_seconds=60)
    running.start()
    yield running
    gate.open.set()
    running.stop()


async def asked(coroutine: Any) -> "asyncio.Task[Any]":
    """Begun, and waiting."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def until(condition: Callable[[], bool]) -> None:
    """A thread is where it has to be; no longer than a test may take."""
    while not condition():
        await asyncio.sleep(0.01)


# ---- texts into tokens


def test_all_that_waits_is_read_at_once_and_each_gets_its_own(reader: Reader, gate: Gate) -> None:
    tokenizer: Any = GatedTokenizer(gate)

    async def scenario() -> list[list[int]]:
        first = await asked(reader.encode(tokenizer, ["a"], 9))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        others = [await asked(reader.encode(tokenizer, texts, 9)) for texts in (["bb", "ccc"], ["dddd"])]
        gate.open.set()
        return [[len(encoding.ids) for encoding in await task] for task in (first, *others)]

    assert asyncio.run(scenario()) == [[1], [2, 3], [4]]
    assert tokenizer.calls == [1, 3]


def test_a_text_that_cannot_be_read_fails_alone(reader: Reader, gate: Gate) -> None:
    tokenizer: Any = GatedTokenizer(gate)

    async def scenario() -> list[Any]:
        first = await asked(reader.encode(tokenizer, ["a"], 9))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        others = [await asked(reader.encode(tokenizer, [text], 9)) for text in ("bb", "poison", "ccc")]
        gate.open.set()
        await first
        return await asyncio.gather(*others, return_exceptions=True)

    before, poisoned, after = asyncio.run(scenario())
    assert (len(before[0].ids), len(after[0].ids)) == (2, 3)
    assert isinstance(poisoned, ValueError)


class WordTokenizer:
    """A token a word, or a Chinese character."""

    def encode(self, texts: Sequence[Text], *_: Any, **__: Any) -> list[Encoding]:
        counts = [len(text) if not str(text).isascii() else len(str(text).split()) for text in texts]
        return [Encoding.of_ids(range(count)) for count in counts]


def test_how_many_tokens_texts_surely_have_is_learned_from_those_before() -> None:
    tokenizer: Any = WordTokenizer()
    alike, dense, chinese = ["four letter word here"] * 8, ["it is so on the way we go"] * 8, ["四个汉字" * 2] * 8
    reader = Reader(max_characters=10_000)
    reader.start()

    async def after(*calls: list[Text]) -> None:
        for texts in calls:
            await reader.encode(tokenizer, texts, 99)

    def least(texts: list[Text], max_length: int = 99) -> float:
        """As a share of what they have."""
        whole = sum(min(max_length, len(encoding.ids)) for encoding in tokenizer.encode(texts))
        return reader.least_tokens(tokenizer, texts, max_length) / whole

    assert least(alike) == 0.0
    asyncio.run(after(alike))
    assert least(alike) == pytest.approx(0.7, abs=0.03)  # one call tells little
    asyncio.run(after(*[alike] * 60))
    assert 0.95 < least(alike) <= 1.0
    assert 0.45 < least(alike, max_length=2) <= 1.0  # of a text that is cut only what is kept
    assert least(dense) < 0.7
    assert 0.3 < least(chinese) <= 1.0, "in bytes Chinese is not unlike other text"
    asyncio.run(after(*[alike, dense] * 60))
    assert 0.0 < least(alike) < 0.9, "where calls differ, it promises less"
    assert 0.0 < least(dense) < 0.9
    reader.stop()


def test_too_much_text_is_429_and_one_long_text_alone_is_not(reader: Reader, gate: Gate) -> None:
    tokenizer: Any = GatedTokenizer(gate)

    async def scenario() -> None:
        first = await asked(reader.encode(tokenizer, ["a" * 30], 99))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        waiting = await asked(reader.encode(tokenizer, ["b" * 30], 99))
        with pytest.raises(Busy, match=r"1 characters do not fit beside the 30 waiting .* the limit is 20"):
            await reader.encode(tokenizer, ["c"], 99)
        gate.open.set()
        assert [len((await task)[0].ids) for task in (first, waiting)] == [30, 30]

    asyncio.run(scenario())


def test_bulk_work_is_never_429_and_waits_for_others_who_never_wait_for_it(reader: Reader, gate: Gate) -> None:
    tokenizer: Any = GatedTokenizer(gate)
    ended: list[str] = []

    async def ask(name: str, texts: list[str]) -> None:
        await reader.encode(tokenizer, texts, 99)
        ended.append(name)

    async def scenario() -> None:
        tasks = [await asked(ask("first", ["a"]))]
        assert await asyncio.to_thread(gate.entered.wait, 60)
        with in_bulk():
            tasks += [await asked(ask(name, ["b" * 15])) for name in ("bulk 1", "bulk 2")]
        tasks += [await asked(ask("live", ["c" * 20]))]
        with pytest.raises(Busy, match="beside the 20 waiting"):
            await reader.encode(tokenizer, ["d"], 99)
        gate.open.set()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert ended == ["first", "live", "bulk 1", "bulk 2"]
    assert tokenizer.calls == [1, 1, 1, 1], "bulk work is read a request at a time"


def test_a_large_request_is_read_in_turns_with_others(reader: Reader, gate: Gate) -> None:
    tokenizer: Any = GatedTokenizer(gate)

    async def scenario() -> list[str]:
        ended: list[str] = []

        async def ask(name: str, texts: list[str]) -> None:
            encodings = await reader.encode(tokenizer, texts, 9)
            assert [len(encoding.ids) for encoding in encodings] == [len(text) for text in texts]
            ended.append(name)

        large = await asked(ask("large", ["a"] * 20))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        small = await asked(ask("small", ["bb"]))
        gate.open.set()
        await asyncio.gather(large, small)
        return ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART_CHARACTERS", 5)
        assert asyncio.run(scenario()) == ["small", "large"]
    assert tokenizer.calls == [5, 6, 5, 5]


def test_a_request_is_read_no_further_than_to_its_limit(reader: Reader, gate: Gate) -> None:
    tokenizer: Any = GatedTokenizer(gate)
    gate.open.set()

    async def scenario() -> None:
        with pytest.raises(TooLarge, match="the first 11 of 30 texts have 110 tokens; the limit is 100, send several"):
            await reader.encode(tokenizer, ["a" * 10] * 30, 99, max_tokens=100)
        assert tokenizer.calls == [1] * 11
        assert len(await reader.encode(tokenizer, ["a" * 10] * 30, 99)) == 30, "who has no limit is read to the end"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART_CHARACTERS", 10)
        asyncio.run(scenario())


def test_a_text_of_great_length_keeps_nobody_waiting(reader: Reader, gate: Gate) -> None:
    slow: Any = GatedTokenizer(gate)
    opened = Gate()
    opened.open.set()
    quick: Any = GatedTokenizer(opened)

    async def scenario() -> None:
        long = await asked(reader.encode(slow, ["a" * 15], 99))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        (encoding,) = await asyncio.wait_for(reader.encode(quick, ["bb"], 9), 60)
        assert (len(encoding.ids), long.done()) == (2, False)
        gate.open.set()
        assert len((await long)[0].ids) == 15

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "LONG_CHARACTERS", 10)
        asyncio.run(scenario())


def test_a_stop_amid_a_large_request_refuses_the_rest(reader: Reader, gate: Gate) -> None:
    tokenizer: Any = GatedTokenizer(gate)

    async def scenario() -> None:
        large = await asked(reader.encode(tokenizer, ["a"] * 20, 9))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        stopping = asyncio.create_task(asyncio.to_thread(reader.stop))
        await until(lambda: reader._line._stopping)
        gate.open.set()
        with pytest.raises(Unavailable, match="stopping"):
            await large
        await stopping

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART_CHARACTERS", 5)
        asyncio.run(scenario())
    assert tokenizer.calls == [5]


# ---- looks inside a model


def test_looks_beyond_the_bound_are_429(looker: Looker, gate: Gate) -> None:
    async def scenario() -> None:
        first = await asked(looker.run("attention", 5, lambda _: gate.pass_through()))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        second = await asked(looker.run("attention", 5, lambda _: "seen"))
        with pytest.raises(Busy, match="1 requests wait to look inside a model"):
            await looker.run("attention", 5, lambda _: "refused")
        gate.open.set()
        assert [await first, await second] == [None, "seen"]

    asyncio.run(scenario())


def test_who_is_refused_is_told_how_long_the_looks_before_him_take(
    looker: Looker, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("service.engine.looking.time", SimpleNamespace(monotonic=lambda: now))

    def slow(_: object) -> None:
        nonlocal now
        now += 2.5

    async def scenario() -> None:
        await looker.run("explain", 5, slow)
        first = await asked(looker.run("attention", 5, lambda _: gate.pass_through()))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        second = await asked(looker.run("attention", 5, lambda _: "seen"))
        with pytest.raises(Busy) as refused:
            await looker.run("attention", 5, lambda _: "refused")
        assert refused.value.retry_after_seconds == 3
        gate.open.set()
        await asyncio.gather(first, second)

    asyncio.run(scenario())


def test_a_look_that_fails_is_told_and_the_next_one_is_answered(looker: Looker) -> None:
    def fails(_: object) -> None:
        raise ValueError("no such layer")

    async def scenario() -> None:
        with pytest.raises(ValueError, match="no such layer"):
            await looker.run("attention", 5, fails)
        assert await looker.run("attention", 5, lambda _: "seen") == "seen"

    asyncio.run(scenario())


def test_a_late_look_is_504_and_one_nobody_waits_for_has_no_turn(looker: Looker, gate: Gate) -> None:
    had_a_turn: list[str] = []

    async def scenario() -> None:
        first = await asked(looker.run("attention", 5, lambda _: gate.pass_through()))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        left = await asked(looker.run("attention", 5, lambda _: had_a_turn.append("left")))
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        looker._timeout_seconds = 0.5
        with pytest.raises(TimedOut, match=r"no answer within 0\.5 s"):
            await looker.run("attention", 5, lambda _: had_a_turn.append("late"))
        gate.open.set()
        await first
        with pytest.raises(TimedOut, match=r"no answer within 0\.5 s"):  # amid its turn
            await looker.run("attention", 5, lambda _: gate.never.wait(60))
        gate.never.set()
        looker._timeout_seconds = 60
        assert await looker.run("attention", 5, lambda _: "seen") == "seen"

    asyncio.run(scenario())
    assert had_a_turn == []


def test_a_look_learns_that_nobody_waits_any_more(looker: Looker, gate: Gate) -> None:
    seen: list[bool] = []

    def look(interrupted: Callable[[], bool]) -> None:
        seen.append(interrupted())
        gate.pass_through()
        seen.append(interrupted())

    async def scenario() -> None:
        left = await asked(looker.run("explain", 5, look))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        gate.open.set()
        assert await looker.run("attention", 5, lambda _: "seen") == "seen"

    asyncio.run(scenario())
    assert seen == [False, True]


def test_a_stop_answers_what_runs_and_refuses_what_waits(gate: Gate) -> None:
    async def scenario() -> None:
        looker = Looker(Metrics(), max_waiting=4, timeout_seconds=60)
        looker.start()
        running = await asked(looker.run("attention", 5, lambda _: gate.pass_through()))
        assert await asyncio.to_thread(gate.entered.wait, 60)
        waiting = await asked(looker.run("attention", 5, lambda _: "seen"))
        stopping = asyncio.create_task(asyncio.to_thread(looker.stop))
        await until(lambda: looker._line._stopping)
        gate.open.set()
        await stopping
        assert await running is None
        for refused in (waiting, looker.run("attention", 5, lambda _: "seen")):
            with pytest.raises(Unavailable):
                await refused

    asyncio.run(scenario())
