"""The threads that compute: each takes texts of its own and waits for no other; what they take and on how many threads."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.generation import Sampling, Writing
from model.lora import AdapterBank, LoraConfig, make_trainable, take_adapter
from model.threads import all_threads, threads
from model.tokenizer import Encoding
from service.engine import cores as cores_module
from service.engine import engine as engine_module
from service.engine.cores import ENOUGH_TOKENS, FEW_TOKENS, MOST_TOKENS, Cores, compute, cores_on, share_of
from service.engine.engine import Engine, in_bulk
from service.engine.runner import LoadedModel, run
from service.engine.writer import new_orders
from service.metrics import Metrics
from tests.small import few, random_model, small_config

CORES = 4
WAIT_SECONDS = 60


@contextmanager
def engine_on(cores: int) -> Iterator[Engine]:
    engine = Engine(Metrics(), 100_000, 2_048, 1, 8, timeout_seconds=WAIT_SECONDS, cores=cores)
    engine.start()
    end = time.monotonic() + WAIT_SECONDS
    while len(engine._cores._idle) < cores:  # all wait for work
        assert time.monotonic() < end
        time.sleep(0.001)
    try:
        yield engine
    finally:
        engine.stop()


def bank_with(adapters: int) -> tuple[AdapterBank, list[int]]:
    bank = AdapterBank(random_model(small_config("encoder")))
    return bank, [0, *(bank.add(adapter(seed)) for seed in range(adapters))]


def adapter(seed: int) -> Any:
    model = random_model(small_config("encoder").with_task("classification", ("no", "yes")))
    lora = LoraConfig(rank=2)
    model.stack.load_state_dict(random_model(small_config("encoder")).stack.state_dict())
    make_trainable(model, lora)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return take_adapter(model, lora)


def loaded(bank: AdapterBank, slot: int) -> LoadedModel:
    return LoadedModel("m", f"m:{slot}", bank.base.config, bank, None, "float32", "m:0", slot)  # type: ignore[arg-type] # reads no text


def encodings(lengths: list[int]) -> list[Encoding]:
    return [Encoding.of_ids(tuple((7 * row + place) % 40 for place in range(n))) for row, n in enumerate(lengths)]


@given(waiting=st.integers(1, 100_000), cores=st.integers(1, 16), idle=st.integers(0, 15))
def test_a_core_takes_an_even_share_within_bounds(waiting: int, cores: int, idle: int) -> None:
    share = share_of(waiting, cores, idle)
    assert share <= MOST_TOKENS
    if idle:
        assert share == min(MOST_TOKENS, max(FEW_TOKENS, -(-waiting // (1 + idle))))
    else:
        assert share >= min(ENOUGH_TOKENS, -(-waiting // cores))


def test_shares_of_a_long_queue_end_together() -> None:
    """Two cores of one speed, the second a little later, take a queue to its end."""
    left, done = 6_000, [0, 150]
    while left:
        core = min((0, 1), key=done.__getitem__)
        taken = min(left, share_of(left, 2, 0))
        left, done[core] = left - taken, done[core] + taken
    assert abs(done[0] - done[1]) <= ENOUGH_TOKENS


class Rooms:
    """Stands for the model: tells which threads are inside, lets them out when told to, answers with the length."""

    def __init__(self) -> None:
        self.inside: dict[str, list[int]] = {}  # lengths, by thread
        self.passes: list[tuple[list[int], int]] = []  # lengths, and threads of the CPU it might take
        self.leave = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, _: Any, __: str, encodings: list[Encoding], most_threads: int) -> list[int]:
        name, lengths = threading.current_thread().name, [len(encoding.ids) for encoding in encodings]
        with self._lock:
            self.inside[name] = lengths
            self.passes.append((lengths, most_threads))
        assert self.leave.acquire(timeout=WAIT_SECONDS)
        with self._lock:
            del self.inside[name]
        return lengths

    async def until(self, count: int) -> None:
        """So many threads are inside, and no more come."""
        await becomes(lambda: len(self.inside) == count)
        await asyncio.sleep(0.05)
        assert len(self.inside) == count

    def let_out(self, count: int = 1_000) -> None:
        self.leave.release(count)


async def becomes(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rooms]:
    made = Rooms()
    monkeypatch.setattr(engine_module, "compute", made)
    monkeypatch.setattr(engine_module, "all_threads", lambda: CORES)
    yield made
    made.let_out()


def base() -> LoadedModel:
    return loaded(bank_with(0)[0], 0)


def test_many_texts_are_computed_by_all_cores_at_once_and_the_answers_are_in_order(rooms: Rooms) -> None:
    lengths = [30 + number % 5 for number in range(40)]

    async def scenario() -> None:
        with engine_on(CORES) as engine:
            asked = asyncio.create_task(engine.submit(base(), "embed", encodings(lengths), "me"))
            await rooms.until(CORES)
            rooms.let_out()
            assert await asked == lengths

    asyncio.run(scenario())
    first = [sum(taken) for taken, _ in rooms.passes[:CORES]]
    assert sum(first) == sum(lengths) or len(rooms.passes) == CORES + 1  # a text does not break in two
    assert max(first) <= -(-sum(lengths) // CORES)
    assert {most for _, most in rooms.passes[: CORES - 1]} == {1}, "each on a thread of its own"


def test_a_request_waits_for_no_other_while_a_core_is_free(rooms: Rooms) -> None:
    model = base()

    async def scenario() -> None:
        with engine_on(2) as engine:
            long = asyncio.create_task(engine.submit(model, "embed", encodings([500]), "me"))
            await rooms.until(1)
            short = asyncio.create_task(engine.submit(model, "embed", encodings([5]), "me"))
            await rooms.until(2)
            later = [asyncio.create_task(engine.submit(model, "embed", encodings([n]), "me")) for n in (6, 7)]
            await asyncio.sleep(0.05)
            rooms.let_out()
            assert await asyncio.gather(long, short, *later) == [[500], [5], [6], [7]]

    asyncio.run(scenario())
    assert [lengths for lengths, _ in rooms.passes] == [[500], [5], [6, 7]], "who waited went together"


def test_a_text_alone_may_take_the_cores_that_have_nothing_to_do(rooms: Rooms) -> None:
    async def scenario() -> None:
        with engine_on(2) as engine:
            first = asyncio.create_task(engine.submit(base(), "embed", encodings([100]), "me"))
            await rooms.until(1)
            second = asyncio.create_task(engine.submit(base(), "embed", encodings([101]), "me"))
            await rooms.until(2)
            rooms.let_out()
            await asyncio.gather(first, second)

    asyncio.run(scenario())
    assert rooms.passes == [([100], CORES), ([101], CORES // 2)], "both cores' threads, then those of one"


@pytest.mark.parametrize(
    ("tokens", "dtype", "most", "expected"),
    [(20, "float32", 4, 1), (60, "float32", 4, 2), (60, "float32", 1, 1), (500, "float32", 4, 4), (60, "int8", 4, 1)],
)
def test_a_pass_takes_as_many_threads_as_pay(
    tokens: int, dtype: str, most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(cores_module, "run", lambda *_: [seen.append(torch.get_num_threads())])
    bank, _ = bank_with(0)
    before = torch.get_num_threads()
    model = LoadedModel("m", "m:0", bank.base.config, bank, None, dtype, "m:0")  # type: ignore[arg-type] # reads no text
    compute([model], "embed", encodings([tokens]), most)
    assert seen == [expected]
    assert torch.get_num_threads() == before


@few
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=24), seed=st.integers(0, 1000))
def test_answers_are_those_of_each_text_alone_with_adapters_mixed(lengths: list[int], seed: int) -> None:
    bank, slots = bank_with(3)
    draw = np.random.default_rng(seed)
    models = [loaded(bank, slots[draw.integers(len(slots))]) for _ in lengths]
    rows = encodings(lengths)

    async def ask_all() -> list[list[Any]]:
        with engine_on(CORES) as engine:
            asked = [engine.submit(model, "embed", [row], "me") for model, row in zip(models, rows, strict=True)]
            return await asyncio.gather(*asked)

    for model, row, (vector,) in zip(models, rows, asyncio.run(ask_all()), strict=True):
        assert np.abs(vector - run([model], "embed", [row])[0]).max() < 1e-5


def test_bulk_work_takes_what_is_left_and_in_small_passes(rooms: Rooms) -> None:
    async def scenario() -> None:
        with engine_on(2) as engine:
            with in_bulk():
                bulk = asyncio.create_task(engine.submit(base(), "embed", encodings([100] * 10), "me"))
            await rooms.until(2)
            live = asyncio.create_task(engine.submit(base(), "embed", encodings([7]), "you"))
            await asyncio.sleep(0.05)
            rooms.let_out(1)
            await becomes(lambda: [7] in rooms.inside.values())
            rooms.let_out()
            assert await live == [7]
            assert await bulk == [100] * 10

    asyncio.run(scenario())
    assert max(sum(lengths) for lengths, _ in rooms.passes) <= 256


def test_texts_grow_by_one_core_at_a_time_beside_requests(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = threading.Semaphore(1)
    grown: list[int] = []  # with how many threads of the CPU

    async def scenario() -> None:
        with engine_on(3) as engine:
            real = engine._writer.turn

            def turn(prompts: Any) -> None:
                assert turns.acquire(blocking=False), "two at once"
                grown.append(torch.get_num_threads())
                time.sleep(0.01)
                real(prompts)
                turns.release()

            monkeypatch.setattr(engine._writer, "turn", turn)
            decoder = random_model(small_config("decoder"))
            bank = AdapterBank(decoder)
            writer = LoadedModel("w", "w:1", decoder.config, bank, None, "float32", "w:1")  # type: ignore[arg-type] # reads no text
            asked = asyncio.create_task(engine.submit(base(), "embed", encodings([9]), "me"))
            await rooms.until(1)
            orders = new_orders(writer, [Writing([1, 2, 3], Sampling(max_tokens=8, temperature=0.0))], 1, "me")
            written = [number async for one in engine.write(orders) for number in one.ids]
            assert written, "beside a core that is busy all the time"
            rooms.let_out()
            assert await asked == [9]

    asyncio.run(scenario())
    assert len(grown) > 3
    assert set(grown) == {2}, "that of the core which has nothing to do, too, whatever other threads have set"


def test_a_stop_waits_for_all_cores_and_leaves_none_behind() -> None:
    inside, leave = threading.Barrier(CORES + 1, timeout=WAIT_SECONDS), threading.Event()
    lock = threading.Lock()
    left = CORES

    def take(_: int) -> Callable[[], None] | None:
        nonlocal left
        if not left:
            return None
        left -= 1
        cores.wake()

        def work() -> None:
            inside.wait()
            assert leave.wait(WAIT_SECONDS)

        return work

    cores = Cores(CORES, lock, take)
    cores.start()
    inside.wait()
    assert cores.running
    threading.Timer(0.1, leave.set).start()
    cores.stop(WAIT_SECONDS)
    assert leave.is_set()
    assert not cores.running
    assert not any(thread.name.startswith("vitrine-device") and thread.is_alive() for thread in cores._threads)


def test_a_gpu_has_one_thread_and_a_cpu_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores_module, "all_threads", lambda: 6)
    assert cores_on(torch.device("cpu")) == 6
    assert cores_on(torch.device("cuda")) == 1
    monkeypatch.setattr(cores_module, "all_threads", lambda: 96)
    assert cores_on(torch.device("cpu")) == 16


def test_adapters_come_and_go_while_batches_run() -> None:
    bank, _ = bank_with(0)
    rows = encodings([20 + number for number in range(16)])
    expected = run([loaded(bank, 0)] * 16, "embed", rows)
    done = threading.Event()

    def change() -> int:
        times = 0
        while not done.is_set():
            slot = bank.add(adapter(times))
            own = run([loaded(bank, slot)], "embed", rows[:1])[0]
            assert np.abs(own - expected[0]).max() > 1e-3
            bank.remove(slot)
            times += 1
        return times

    async def ask() -> list[list[Any]]:
        with engine_on(CORES) as engine:
            return [await engine.submit(loaded(bank, 0), "embed", rows, "me") for _ in range(50)]

    with ThreadPoolExecutor(1) as beside:
        changing = beside.submit(change)
        try:
            for vectors in asyncio.run(ask()):
                for vector, right in zip(vectors, expected, strict=True):
                    assert np.abs(vector - right).max() < 1e-5
        finally:
            done.set()
        assert changing.result() > 0


def test_a_thread_keeps_its_number_whatever_others_set() -> None:
    mine = all_threads()
    inside, leave = threading.Event(), threading.Event()

    def other() -> int:
        with threads(3):
            inside.set()
            assert leave.wait(10)
            return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(other)
        assert inside.wait(10)
        with threads(2):
            leave.set()
            assert theirs.result() == 3
            assert torch.get_num_threads() == 2
    assert mine == all_threads()
