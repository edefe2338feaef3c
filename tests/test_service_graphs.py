"""Recorded forward passes, without a GPU: torch's tracer stands in for CUDA's. Like a graph it keeps the operations with
their shapes and addresses, and nothing of the Python around them. `gpu_checks.py` has the same with the real one.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

import model.attention
from model.batch import Unpadded, unpad
from model.tokenizer import Encoding
from model.transformer import Encoder
from service.engine import graphs
from service.engine.graphs import FEWEST_TOKENS, MOST_TOKENS, Graphs, Recorder, Shape
from service.engine.runner import run
from tests.house import made_house
from tests.small import VOCABULARY, random_model, small_config
from tests.test_service_cores import bank_with, loaded


def record_operations(compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    traced = make_fx(compute)()
    result = traced()

    def replay() -> None:
        result.copy_(traced())

    return result, replay


def varlen_attn(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, _: Tensor, longest: int, __: int, window_size: object
) -> Tensor:
    """FlashAttention's contract in plain operations: [N, H, K] -> [N, H, K]. Tokens of no document get what happens to
    lie in memory; here the worst."""
    place = torch.arange(len(query))
    document = torch.bucketize(place, starts[1:], right=True)  # [N]
    nowhere = (document == len(starts) - 1)[:, None, None]
    key, value = key.masked_fill(nowhere, 0.0), value.masked_fill(nowhere, 0.0)  # no document reads them
    allowed = document[:, None] == document[None, :]
    if window_size == (-1, 0):
        allowed = allowed & (place[:, None] >= place[None, :])
    scores = torch.einsum("nhk,mhk->hnm", query, key) / query.size(-1) ** 0.5
    weights = torch.softmax(scores.masked_fill(~allowed, float("-inf")), dim=-1)
    mixed = torch.einsum("hnm,mhk->nhk", weights, value)
    return mixed.masked_fill(nowhere, float("nan"))


@pytest.fixture
def by_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    for module in (model.attention, graphs):
        monkeypatch.setattr(module, "attends_by_starts", lambda *_: True)
    monkeypatch.setattr(model.attention, "varlen", lambda: SimpleNamespace(varlen_attn=varlen_attn))


def some_texts(chance: random.Random, most: int = 12) -> list[Encoding]:
    return [texts_of(chance.randint(1, 20), chance) for _ in range(chance.randint(1, most))]


def texts_of(tokens: int, chance: random.Random) -> Encoding:
    return Encoding.of_ids([chance.randrange(VOCABULARY) for _ in range(tokens)])


def body_of(architecture: str = "encoder") -> Encoder:
    return random_model(small_config(architecture)).body


@pytest.mark.usefixtures("by_starts")
@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_a_replayed_pass_gives_what_its_operations_give(architecture: str) -> None:
    body, chance = body_of(architecture), random.Random(0)
    kept = Graphs(body, record_operations)
    held = []
    with torch.inference_mode():
        for _ in range(80):
            documents = unpad(some_texts(chance))
            held.append((kept.read(documents), body.forward_unpadded(documents)))
    assert 5 < len(kept) < 20, "many batches share few shapes"
    for found, wanted in held:  # after all others: a result has memory of its own
        assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.usefixtures("by_starts")
def test_a_replayed_pass_asks_for_no_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    body = body_of()
    kept, documents = Graphs(body, record_operations), unpad([texts_of(9, random.Random(1))])
    first, recorded = kept.read(documents), kept.read(documents)
    monkeypatch.setattr(type(body), "forward_unpadded", lambda *_: pytest.fail("asked for one by one"))
    assert torch.allclose(kept.read(documents), first, atol=1e-5)
    assert torch.equal(first, recorded)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1], (32, 1, 128)),
        ([32], (32, 1, 128)),
        ([33], (48, 1, 128)),
        ([20, 20, 20], (64, 4, 128)),
        ([65], (96, 1, 128)),
        ([129], (192, 1, 256)),
        ([512] * 8, (4096, 8, 512)),
    ],
)
def test_a_shape_has_room_and_little_more(tokens: list[int], expected: tuple[int, int, int]) -> None:
    chance = random.Random(0)
    assert Shape.of(unpad([texts_of(count, chance) for count in tokens])) == Shape(*expected)


@given(tokens=st.integers(1, MOST_TOKENS))
def test_at_most_a_third_is_computed_in_vain(tokens: int) -> None:
    room = Shape.of(unpad([Encoding.of_ids([7] * tokens)]))
    assert tokens <= room.tokens <= max(FEWEST_TOKENS, 1.5 * tokens)
    assert tokens <= room.longest


@pytest.mark.usefixtures("by_starts")
def test_what_comes_once_is_not_recorded_nor_what_is_large_nor_ever_more(monkeypatch: pytest.MonkeyPatch) -> None:
    body, chance = body_of(), random.Random(2)
    kept = Graphs(body, record_operations)
    kept.read(unpad([texts_of(9, chance)]))
    assert len(kept) == 0
    large = unpad([texts_of(60, chance) for _ in range(MOST_TOKENS // 60 + 1)])
    for _ in range(3):
        kept.read(large)
    assert len(kept) == 0
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    for count in (1, 2, 3, 5):
        for _ in range(3):
            kept.read(unpad([texts_of(9, chance) for _ in range(count)]))
    assert len(kept) == 2


def broken(_: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    raise RuntimeError("operation not permitted when stream is capturing")


def forgetful(compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    return torch.zeros_like(compute()), lambda: None


def idle(compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
    """As when the operations went to another card than the one that records."""
    return compute(), lambda: None


OTHER_NUMBERS = "gives other numbers, by 100.0% of the"


@pytest.mark.usefixtures("by_starts")
@pytest.mark.parametrize(
    ("record", "why"),
    [
        (broken, "could not be recorded (operation not permitted"),
        (forgetful, OTHER_NUMBERS),
        (idle, OTHER_NUMBERS),
    ],
)
def test_a_recording_that_fails_or_differs_is_told_once_and_not_used(
    record: Recorder, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, chance = body_of(), random.Random(3)
    kept = Graphs(body, record)
    with caplog.at_level(logging.WARNING, logger="vitrine.engine"), torch.inference_mode():
        for count in (1, 2):
            documents = unpad([texts_of(9, chance) for _ in range(count)])
            for _ in range(3):
                assert torch.equal(kept.read(documents), body.forward_unpadded(documents))
    assert [why in message for message in caplog.messages] == [True]
    assert len(kept) == 0


@pytest.mark.usefixtures("by_starts")
def test_batches_with_adapters_are_computed_and_their_base_s_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, slots = bank_with(2)
    kept = Graphs(bank.base.body, record_operations)
    replayed: list[int] = []
    read = Graphs.read
    monkeypatch.setattr(Graphs, "read", lambda self, documents: replayed.append(1) or read(self, documents))
    rows = [texts_of(9, random.Random(seed)) for seed in range(3)]
    for mixed, times in (([0, 0, 0], 1), (slots, 0)):
        plain = [loaded(bank, slot) for slot in mixed]
        wanted = run(plain, "embed", rows)
        for _ in range(3):
            found = run([replace(model, recorded=kept) for model in plain], "embed", rows)
            assert np.abs(np.stack(found) - np.stack(wanted)).max() < 1e-5
        assert len(replayed) == 3 * times
        replayed.clear()
    assert len(kept) == 1


def test_only_a_pass_of_tensors_alone_is_recorded(by_starts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    architectures = ("encoder", "decoder", "encoder_decoder")
    models = {architecture: random_model(small_config(architecture)) for architecture in architectures}
    cpu = torch.device("cpu")
    assert Graphs.of(models["encoder"], cpu) is not None
    assert Graphs.of(models["encoder_decoder"], cpu) is None
    monkeypatch.undo()
    assert [Graphs.of(model, cpu) for model in models.values()] == [None] * len(models)


@pytest.mark.usefixtures("by_starts")
@pytest.mark.parametrize(("setting", "recorded"), [("auto", True), ("off", False)])
def test_a_setting_turns_it_off(setting: str, recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed: list[bool] = []
    read = Graphs.read

    def noted(self: Graphs, documents: Unpadded) -> Tensor:
        hidden = read(self, documents)
        replayed.append(len(self) > 0)
        return hidden

    monkeypatch.setattr(graphs, "GpuRecorder", lambda _: record_operations)
    monkeypatch.setattr(Graphs, "read", noted)
    with made_house(tmp_path, "cpu", gpu_graphs=setting, cpu_programs="off") as house:
        for _ in range(3):
            answer = house.ask("POST", "/v1/embeddings", house.ann, json={"model": "tiny", "input": "red cat"})
            assert answer.status_code == 200
        shown = {model["id"]: model for model in house.ask("GET", "/v1/models", house.ann).json()["data"]}
    assert any(replayed) == recorded
    assert shown["tiny"]["recorded_passes"] == (1 if recorded else None)
    assert shown[house.model]["recorded_passes"] is None, "not in memory"
