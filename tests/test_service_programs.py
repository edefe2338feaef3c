"""A CPU's pass as one program: the operations' own numbers for every batch, none of its Python, nothing kept of a model
that has left, and the operations themselves where it can't be had."""

import gc
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from model.batch import Unpadded, pad, unpad
from model.capability import has_int8
from model.config import TransformerConfig
from model.heads import TextModel
from model.lora import TARGETS, AdapterBank, replace_linears
from model.packed import PackedLinear
from model.quantized import QuantizedLinear, activation_levels
from model.tokenizer import train_wordpiece
from model.transformer import Encoder
from service.engine import programs
from service.engine.programs import CHECKED_LENGTHS, Program
from service.engine.runner import Operation, run
from service.formats import convert
from tests.house import made_house
from tests.small import configs, few, random_model, small_config
from tests.test_service_cores import bank_with, encodings, loaded

CPU = torch.device("cpu")


def program_of(model: TextModel) -> Program:
    made = Program.of(model, CPU)
    assert made is not None
    assert not made.failed
    return made


def in_int8(model: TextModel) -> TextModel:
    for name, linear in [*model.body.named_modules()]:
        if isinstance(linear, nn.Linear):
            parent, _, own = name.rpartition(".")
            rounded = QuantizedLinear(linear, torch.tensor([1]), activation_levels())
            setattr(model.body.get_submodule(parent), own, rounded)
    return model


@few
@given(
    config=configs("encoder", "decoder"), dtype=st.sampled_from(["float32", "packed", "bfloat16", "int8"]),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=9), seed=st.integers(0, 99),
)  # fmt: skip
def test_it_gives_what_the_operations_give(
    config: TransformerConfig, dtype: str, lengths: list[int], seed: int
) -> None:
    """Whatever the architecture, and whichever lengths it was traced with; of all tokens and of the first."""
    model = random_model(replace(config, pooling="first") if config.architecture == "encoder" else config, seed)
    if dtype == "bfloat16":
        convert(model, train_wordpiece(["red cat"], 20), "bfloat16")
    if dtype == "packed":  # in float32, which every CPU has
        replace_linears(model, TARGETS, PackedLinear)
    if dtype == "int8" and has_int8(CPU):
        in_int8(model)
    program, documents = program_of(model), unpad(encodings(lengths))
    with torch.inference_mode():
        assert torch.equal(program.read(documents), model.body.forward_unpadded(documents))
        if config.architecture == "encoder":
            first = model.body.first_tokens_unpadded(documents)
            assert torch.equal(program.read(documents, "first_tokens_unpadded"), first)


@pytest.mark.parametrize("operation", ["classify", "embed"])
@pytest.mark.parametrize("recorded", [True, False])
def test_where_the_first_token_stands_for_a_text_the_last_layer_computes_no_other(
    operation: Operation, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(small_config("encoder").with_task("classification", ("no", "yes"), "first"))
    texts = encodings([4, 9, 1, 4, 20])
    served = replace(loaded(AdapterBank(model), 0), recorded=program_of(model) if recorded else None)
    ask = model.classify if operation == "classify" else model.embed
    wanted = [ask(pad([text], 0))[0] for text in texts]
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "forward_unpadded", lambda *_: pytest.fail("all tokens through the last layer"))
        found = run([served] * 5, operation, texts)
    exact = [vector.softmax(-1) if operation == "classify" else vector for vector in wanted]
    assert np.allclose(found, torch.stack(exact).numpy(), atol=1e-5)


def test_it_runs_no_python_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, documents = random_model(small_config("encoder")), unpad(encodings([5, 2, 9]))
    program = program_of(model)
    wanted = model.body.forward_unpadded(documents)

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(nn.Module, "__call__", fail)
    monkeypatch.setattr(Encoder, "forward_unpadded", fail)
    assert torch.equal(program.read(documents), wanted)


def test_models_of_one_architecture_share_it_and_it_keeps_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Encoder] = []
    trace = programs._trace

    def noted(body: Encoder, name: programs.Pass) -> programs.Traced:
        made.append(body)
        return trace(body, name)

    monkeypatch.setattr(programs, "_trace", noted)
    monkeypatch.setattr(programs, "_traced", {})
    documents = unpad(encodings([3, 7]))
    models = [random_model(small_config("encoder"), seed) for seed in range(3)]
    models.append(random_model(small_config("encoder").with_task("classification", ("no", "yes"))))
    with torch.inference_mode():
        for model in models:
            assert torch.equal(program_of(model).read(documents), model.body.forward_unpadded(documents))
        assert len(made) == 1
        other = random_model(small_config("encoder", num_heads=4))  # the same weights, another formula
        assert torch.equal(program_of(other).read(documents), other.body.forward_unpadded(documents))
    assert len(made) == 2
    made.clear()
    kept = [weakref.ref(model.body.layers[0].attention.output.weight) for model in (*models, other)]  # type: ignore[union-attr]
    del model, models, other
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


def test_cores_run_one_at_the_same_time() -> None:
    model = random_model(small_config("encoder"))
    program = program_of(model)
    batches = [unpad(encodings([1 + (3 * number) % 20, 1 + number % 7])) for number in range(40)]
    with torch.inference_mode():
        wanted = [model.body.forward_unpadded(documents) for documents in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for given_, expected in zip(pool.map(program.read, batches), wanted, strict=True):
                assert torch.equal(given_, expected)


def test_a_batch_with_adapters_goes_through_its_operations() -> None:
    bank, slots = bank_with(adapters=2)
    plain = [loaded(bank, slot) for slot in (slots[0], slots[1], slots[0], slots[2])]
    texts = encodings([4, 9, 2, 6])
    program = program_of(random_model(small_config("encoder")))  # made before there were adapters, as it is served
    for models in (plain, [plain[0]] * 4):
        wanted = run(models, "embed", texts)
        found = run([replace(model, recorded=program) for model in models], "embed", texts)
        assert np.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("wrong", ["forward_unpadded", "first_tokens_unpadded"])
@pytest.mark.parametrize("fault", ["fails", "differs"])
def test_what_fails_or_differs_is_not_used(
    fault: str, wrong: programs.Pass, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = programs._trace

    def trace(body: Encoder, name: programs.Pass) -> programs.Traced:
        if name != wrong:
            return whole(body, name)
        if fault == "fails":
            raise RuntimeError("no such operation")
        rows = len(CHECKED_LENGTHS) if name == "first_tokens_unpadded" else sum(CHECKED_LENGTHS)
        return lambda *_: torch.ones(rows, body.config.width)

    monkeypatch.setattr(programs, "_trace", trace)
    monkeypatch.setattr(programs, "_traced", {})
    model, documents = random_model(small_config("encoder", pooling="first")), unpad(encodings([3]))
    with caplog.at_level(logging.WARNING, "vitrine.engine"):
        program = Program.of(model, CPU)
    assert program is not None
    assert program.failed
    assert len(program) == 0
    assert {"fails": "no such operation", "differs": "other numbers"}[fault] in caplog.text
    assert torch.equal(program.read(documents), model.body.forward_unpadded(documents))
    assert torch.equal(program.read(documents, "first_tokens_unpadded"), model.body.first_tokens_unpadded(documents))


def test_only_what_waits_for_python_has_one() -> None:
    assert Program.of(random_model(small_config("encoder_decoder")), CPU) is None
    assert Program.of(random_model(small_config("encoder")), torch.device("cuda")) is None


@pytest.mark.parametrize(("setting", "recorded"), [("auto", True), ("off", False)])
def test_a_setting_turns_it_off(setting: str, recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = Program.read

    def noted(self: Program, documents: Unpadded, name: programs.Pass = "forward_unpadded") -> Tensor:
        read.append(len(documents.ids))
        return whole(self, documents, name)

    monkeypatch.setattr(Program, "read", noted)
    with made_house(tmp_path, "cpu", cpu_programs=setting) as house:
        shown = {model["id"]: model for model in house.ask("GET", "/v1/models", house.ann).json()["data"]}
        assert shown[house.model]["recorded_passes"] is None, "not in memory"
        for model in ("tiny", house.model):
            answer = house.ask("POST", "/v1/embeddings", house.ann, json={"model": model, "input": "red cat"})
            assert answer.status_code == 200
        shown = {model["id"]: model for model in house.ask("GET", "/v1/models", house.ann).json()["data"]}
    assert bool(read) == recorded
    assert [shown[name]["recorded_passes"] for name in ("tiny", house.model)] == [1 if recorded else None] * 2
