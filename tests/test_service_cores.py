"""A batch on several cores: the same answers as on one, adapters beside it, errors after all are done."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.lora import AdapterBank, LoraConfig, make_trainable, take_adapter
from model.threads import all_threads, threads
from model.tokenizer import Encoding
from service.engine import cores as cores_module
from service.engine.cores import FEW_TOKENS, UNEVEN, Cores, shares_of
from service.engine.runner import LoadedModel, run
from tests.small import few, random_model, small_config

CORES = 4


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cores]:
    """Four, whatever this machine has."""
    monkeypatch.setattr(cores_module, "all_threads", lambda: CORES)
    made = Cores()
    yield made
    made.stop()


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


@given(
    texts=st.lists(st.tuples(st.integers(1, 512), st.integers(0, 3)), min_size=1, max_size=60),
    count=st.integers(1, 64),
)
def test_each_text_is_in_one_share_and_no_share_waits_long_for_another(
    texts: list[tuple[int, int]], count: int
) -> None:
    lengths, groups = [length for length, _ in texts], [group for _, group in texts]
    shares = shares_of(lengths, groups, count)
    assert sorted(text for share in shares for text in share) == list(range(len(texts)))
    assert 1 <= len(shares) <= min(count, len(texts))
    tokens = [sum(lengths[text] for text in share) for share in shares]
    assert len(shares) == 1 or max(tokens) <= UNEVEN * sum(lengths) / len(shares)
    assert len(shares) == 1 or sum(lengths) >= len(shares) * FEW_TOKENS


def test_many_texts_are_shared_evenly_and_those_of_one_length_stay_together() -> None:
    shares = shares_of([20, 30] * 40, [0] * 80, 2)
    assert [sum(20 + 10 * (text % 2) for text in share) for share in shares] == [1010, 990]
    assert all(text % 2 == 1 for text in shares[1]), "the long ones have a share without short ones"
    assert shares_of([500, 10, 10], [0] * 3, 2) == [[0, 1, 2]], "all cores together: one text is almost everything"
    assert shares_of([8, 8, 8], [0] * 3, 2) == [[0, 1, 2]], "too little to share"


@few
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=24),
    seed=st.integers(0, 1000),
)
def test_answers_are_those_of_one_core_in_order_with_adapters_mixed(lengths: list[int], seed: int) -> None:
    bank, slots = bank_with(3)
    draw = np.random.default_rng(seed)
    models = [loaded(bank, slots[draw.integers(len(slots))]) for _ in lengths]
    rows = encodings(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cores_module, "all_threads", lambda: CORES)
        cores = Cores()
        try:
            together = cores.run(models, "embed", rows)
        finally:
            cores.stop()
    for model, row, vector in zip(models, rows, together, strict=True):
        assert np.abs(vector - run([model], "embed", [row])[0]).max() < 1e-5


def test_a_batch_is_computed_by_several_threads_each_on_its_own_core(
    cores: Cores, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}
    all_there = threading.Barrier(CORES, timeout=10)

    def note(models: Any, _: str, texts: list[Encoding]) -> list[int]:
        all_there.wait()  # one that came after another would break it
        seen[threading.current_thread().name] = torch.get_num_threads()
        return [len(text.ids) for text in texts]

    monkeypatch.setattr(cores_module, "run", note)
    bank, _ = bank_with(0)
    before = torch.get_num_threads()
    lengths = [30 + number % 5 for number in range(20)]
    assert cores.run([loaded(bank, 0)] * 20, "embed", encodings(lengths)) == lengths
    assert len(seen) == CORES
    assert set(seen.values()) == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("tokens", "dtype", "expected"), [(20, "float32", 1), (60, "float32", 2), (60, "int8", 1)])
def test_a_text_alone_takes_as_many_threads_as_pay(
    tokens: int, dtype: str, expected: int, cores: Cores, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(cores_module, "run", lambda *_: [seen.append(torch.get_num_threads())])
    bank, _ = bank_with(0)
    model = LoadedModel("m", "m:0", bank.base.config, bank, None, dtype, "m:0")  # type: ignore[arg-type] # reads no text
    cores.run([model], "embed", encodings([tokens]))
    assert seen == [expected]


def test_what_one_core_raises_is_raised_when_all_are_done(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[int] = []

    def fails_for_the_shortest(models: Any, _: str, texts: list[Encoding]) -> list[int]:
        if min(len(text.ids) for text in texts) == 30:
            raise ValueError("unlucky")
        threading.Event().wait(0.2)
        finished.append(len(texts))
        return [0] * len(texts)

    monkeypatch.setattr(cores_module, "run", fails_for_the_shortest)
    bank, _ = bank_with(0)
    for lengths in ([30, 40, 40, 40], [40, 40, 40, 30]):
        finished.clear()
        with pytest.raises(ValueError, match="unlucky"):
            cores.run([loaded(bank, 0)] * 4, "embed", encodings(lengths))
        assert len(finished) == 3


def test_adapters_come_and_go_while_batches_run(cores: Cores) -> None:
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

    with ThreadPoolExecutor(1) as beside:
        changing = beside.submit(change)
        try:
            for _ in range(50):
                for vector, right in zip(cores.run([loaded(bank, 0)] * 16, "embed", rows), expected, strict=True):
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
