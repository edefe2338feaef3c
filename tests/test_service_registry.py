"""The registry over a store that changes under it: models replaced, deleted, too many for memory."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import bentoml
import pytest
import torch
from bentoml._internal.models import ModelStore as BentoModelStore
from fastapi.testclient import TestClient

from model.config import TransformerConfig
from model.folders import load_config
from model.generation import Sampling, Writing, write_all
from model.heads import TextModel
from model.lora import AdapterBank, LoraConfig, LoraLinear, make_trainable, save_adapter, take_adapter
from model.tokenizer import Encoding, Tokenizer, train_wordpiece
from model.weights import save_model
from service.app import create_app
from service.database import Database
from service.engine import engine as engine_module
from service.engine.cores import compute
from service.engine.engine import Engine
from service.engine.runner import LoadedModel, Operation, run
from service.engine.writer import new_orders
from service.errors import Conflict, NotFound
from service.formats import Formats
from service.jobs.store import JobStore
from service.metrics import Metrics
from service.model_store import ModelStore
from service.registry import Registry
from service.settings import Settings
from tests.conftest import wait_for
from tests.house import made_house
from tests.small import random_model, small_config

TEXT = "the film was fine"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([TEXT, "我爱北京"], 60)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "bentoml")


def registry(store: ModelStore, max_resident: int = 8) -> Registry:
    return Registry(store, Metrics(), torch.device("cpu"), Formats("float32"), max_resident=max_resident)


def encoder(tokenizer: Tokenizer, seed: int) -> TextModel:
    return random_model(small_config("encoder", vocab_size=tokenizer.vocab_size, task="embeddings"), seed)


def folder_of(model: TextModel, tokenizer: Tokenizer, folder: Path) -> Path:
    save_model(model, tokenizer, folder)
    return folder


def adapter_folder(base: TextModel, base_id: str, seed: int, folder: Path) -> Path:
    torch.manual_seed(seed)
    model = TextModel(base.config.with_task("classification", ("a", "b"), "mean", "none"))
    lora = LoraConfig(rank=2)
    make_trainable(model, lora)
    torch.nn.init.normal_(model.classifier.linear.weight, std=0.3)  # type: ignore[union-attr]
    for module in model.modules():
        if isinstance(module, LoraLinear):
            torch.nn.init.normal_(module.up, std=0.5)
    save_adapter(take_adapter(model, lora), base_id, folder)
    return folder


def published(store: ModelStore, tokenizer: Tokenizer, folder: Path, adapters: str, others: str) -> None:
    """A base, adapters over it and other models, each by a letter."""
    base = encoder(tokenizer, 1)
    store.publish(folder_of(base, tokenizer, folder / "base"), "base", "base:1", None, None)
    for seed, name in enumerate(adapters):
        store.publish(adapter_folder(base, "base", seed, folder / name), name, f"{name}:1", "base", None)
    for seed, name in enumerate(others):
        store.publish(folder_of(encoder(tokenizer, seed), tokenizer, folder / name), name, f"{name}:1", None, None)


def versions_of(config: TransformerConfig, tokenizer: Tokenizer) -> list[LoadedModel]:
    """Two models of one name."""
    return [
        LoadedModel("own", tag, config, AdapterBank(random_model(config, seed)), tokenizer, "float32", tag)
        for seed, tag in enumerate(("own:1", "own:2"))
    ]


def embedding(loaded: LoadedModel) -> torch.Tensor:
    return torch.from_numpy(run([loaded], "embed", loaded.tokenizer.encode([TEXT], 32))[0])


def test_a_replaced_model_answers_after_the_next_look_and_the_old_one_as_long_as_it_is_held(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    async def check() -> None:
        models = registry(store)
        store.replace(folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "one"), "own", "own:1")
        first = await models.get("own")
        before = embedding(first)
        await models.drop_deleted()
        assert await models.get("own") is first
        store.replace(folder_of(encoder(tokenizer, 2), tokenizer, tmp_path / "two"), "own", "own:2")
        await models.drop_deleted()
        second = await models.get("own")
        assert (first.tag, second.tag) == ("own:1", "own:2")
        assert torch.equal(embedding(first), before)
        assert not torch.allclose(embedding(second), before, atol=0.01)
        assert [card.tag for card in store.cards()] == ["own:2"]

    asyncio.run(check())


def test_a_model_is_read_once_however_often_the_store_is_looked_at(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counting(folder: Path) -> TransformerConfig:
        read.append(folder.name)
        return load_config(folder)

    monkeypatch.setattr("service.model_store.load_config", counting)
    folder = folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "one")
    store.publish(folder, "a", "own:1", None, None)
    store.publish(folder, "b", "own:2", None, None)
    assert [card.id for card in store.cards()] == [card.id for card in store.cards()] == ["b", "a"]
    assert sorted(read) == ["1", "2"]
    store.delete("b")
    store.publish(folder, "c", "own:2", None, None)
    assert [card.id for card in store.cards()] == ["c", "a"], "another model under a tag that was deleted"
    (store.find("a").folder / "model.yaml").unlink()
    assert [card.id for card in store.cards()] == ["c"]


def test_what_may_not_be_read_in_a_shared_store_hides_nothing_else(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "one")
    for name in ("a", "b"):
        store.publish(folder, name, f"{name}:1", None, None)
    read = bentoml.models.Model.from_path

    def refusing(path: Path) -> bentoml.models.Model:
        if path.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr("service.model_store.StoredModel.from_path", refusing)
    assert [card.id for card in store.cards()] == ["a"]


def test_a_name_answers_while_it_is_replaced(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "one")
    store.replace(folder, "own", "own:1")
    found = []
    remove = store._remove

    def watch(tag: str) -> None:
        found.append((store.find("own").tag, tag))
        remove(tag)

    monkeypatch.setattr(store, "_remove", watch)
    store.replace(folder, "own", "own:2")
    store.replace(folder, "own", "own:2")
    assert found == [("own:2", "own:1")], "the newer one is there before the older one leaves, and is left alone"


def test_a_base_with_an_adapter_is_neither_replaced_nor_deleted(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    base = encoder(tokenizer, 1)
    folder = folder_of(base, tokenizer, tmp_path / "base")
    store.replace(folder, "base", "base:1")
    store.publish(adapter_folder(base, "base", 1, tmp_path / "over"), "over", "over:1", "base", None)
    for change in (lambda: store.replace(folder, "base", "base:2"), lambda: store.delete("base")):
        with pytest.raises(Conflict, match="base is the base of the adapter over; delete that first"):
            change()
    assert sorted(card.tag for card in store.cards()) == ["base:1", "over:1"]
    store.replace(folder, "base", "base:1")  # the same content: nothing to replace
    store.delete("over")
    store.delete("base")
    with pytest.raises(NotFound, match="this service has: none yet"):
        store.delete("base")


def test_adapters_of_one_name_in_one_batch_answer_with_their_own_heads(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    base = encoder(tokenizer, 1)

    async def check() -> None:
        models = registry(store)
        store.replace(folder_of(base, tokenizer, tmp_path / "base"), "base", "base:1")
        loaded = []
        for number in (1, 2):
            store.publish(
                adapter_folder(base, "base", number, tmp_path / f"{number}"), "over", f"over:{number}", "base", None
            )
            loaded.append(await models.get("over"))
            store.delete("over")
            await models.drop_deleted()
        assert [model.tag for model in loaded] == ["over:1", "over:2"]
        encodings = tokenizer.encode([TEXT] * 2, 32)
        alone = [run([model], "classify", encodings[:1])[0] for model in loaded]
        assert abs(alone[0] - alone[1]).max() > 0.01
        for mixed, own in zip(run(loaded, "classify", encodings), alone, strict=True):
            assert mixed == pytest.approx(own, abs=1e-5)

    asyncio.run(check())


def test_a_base_that_was_deleted_by_other_means_takes_its_adapters_along(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    base = encoder(tokenizer, 1)

    async def check() -> None:
        models = registry(store)
        store.replace(folder_of(base, tokenizer, tmp_path / "base"), "base", "base:1")
        store.publish(adapter_folder(base, "base", 1, tmp_path / "over"), "over", "over:1", "base", None)
        await models.get("over")
        bentoml.models.delete("base:1", _model_store=BentoModelStore(tmp_path / "bentoml" / "models"))
        await models.drop_deleted()
        assert models.resident == []

    asyncio.run(check())


@pytest.mark.parametrize(
    ("max_resident", "left"), [(1, ["base", "over2"]), (2, ["base", "over2"]), (3, ["base", "over1", "over2"])]
)
def test_the_model_just_asked_for_and_its_base_are_never_the_ones_dropped(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, max_resident: int, left: list[str]
) -> None:
    base = encoder(tokenizer, 1)

    async def check() -> None:
        models = registry(store, max_resident)
        store.replace(folder_of(base, tokenizer, tmp_path / "base"), "base", "base:1")
        for name in ("over1", "over2"):
            store.publish(adapter_folder(base, "base", 1, tmp_path / name), name, f"{name}:1", "base", None)
        for name in ("over1", "over2"):
            assert (await models.get(name)).id == name
        assert sorted(models.resident) == left

    asyncio.run(check())


def test_adapters_over_two_copies_of_one_base_never_share_a_batch(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts for one wait while its base leaves memory and is loaded again for the other, which has the same slot."""
    published(store, tokenizer, tmp_path, "xy", "pq")
    encodings = tokenizer.encode([TEXT], 32)
    entered, queued = threading.Event(), threading.Event()

    def watched(models: list[LoadedModel], *others: Any) -> list[Any]:
        entered.set()
        assert queued.wait(60)
        return compute(models, *others)

    monkeypatch.setattr(engine_module, "compute", watched)

    async def check() -> None:
        models = registry(store, 2)
        engine = Engine(Metrics(), 1000, 64, 1, 8, 60.0, cores=1)
        engine.start()
        try:
            x, p = await models.get("x"), await models.get("p")
            running = asyncio.create_task(engine.submit(p, "embed", encodings, "me"))
            assert await asyncio.to_thread(entered.wait, 60)
            asked = [asyncio.create_task(engine.submit(x, "classify", encodings, "ann"))]
            await models.get("q")
            y = await models.get("y")
            assert (x.base_tag, x.slot) == (y.base_tag, y.slot)
            assert x.bank is not y.bank
            asked.append(asyncio.create_task(engine.submit(y, "classify", encodings, "bob")))
            while len(engine._queue) < 2:
                await asyncio.sleep(0)
            queued.set()
            for loaded, rows in zip((x, y), await asyncio.gather(*asked), strict=True):
                assert rows[0] == pytest.approx(run([loaded], "classify", encodings)[0], abs=1e-5)
            await running
            with pytest.raises(AssertionError):
                run([x, y], "classify", encodings * 2)
        finally:
            queued.set()
            engine.stop()

    asyncio.run(check())


def test_memory_is_given_back_when_a_model_left_and_only_then(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resident: list[list[str]] = []  # at each time that memory was given back

    async def check() -> None:
        models = registry(store, 2)
        monkeypatch.setattr("service.registry.give_back", lambda: resident.append(models.resident))
        for number, name in enumerate(("one", "two", "three")):
            store.publish(
                folder_of(encoder(tokenizer, number), tokenizer, tmp_path / name), name, f"{name}:1", None, None
            )
        await models.get("one")
        await models.get("two")
        await models.drop_deleted()
        assert resident == []
        await models.get("three")
        assert resident == [["two", "three"]]
        store.delete("two")
        await models.drop_deleted()
        assert resident == [["two", "three"], ["three"]]

    asyncio.run(check())


def test_two_versions_of_a_writer_write_side_by_side(tokenizer: Tokenizer) -> None:
    """Both have the same name; a text begun with one is not continued by the other."""
    versions = versions_of(small_config("decoder", vocab_size=tokenizer.vocab_size), tokenizer)
    prompt = [5, 6, 7]

    async def write() -> list[list[int]]:
        engine = Engine(Metrics(), 1000, 64, 1, 8, 10.0, cores=1)
        engine.start()
        try:
            return list(await asyncio.gather(*(text(engine, loaded) for loaded in versions)))
        finally:
            engine.stop()

    async def text(engine: Engine, loaded: LoadedModel) -> list[int]:
        orders = new_orders(loaded, [Writing(list(prompt), Sampling(max_tokens=12, temperature=0.0))], 1, "me")
        return [number async for written in engine.write(orders) for number in written.ids]

    alone = []
    for loaded in versions:
        writing = Writing(list(prompt), Sampling(max_tokens=12, temperature=0.0))
        write_all(loaded.model, [writing])
        alone.append(writing.ids)
    assert alone[0] != alone[1]
    assert asyncio.run(write()) == alone


def test_two_versions_of_an_encoder_never_share_a_batch(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config("encoder", vocab_size=tokenizer.vocab_size, task="embeddings")
    one, two = versions_of(config, tokenizer)
    (encoding,) = tokenizer.encode([TEXT], 32)
    batches: list[list[str]] = []
    queued = threading.Event()

    def watched(
        models: list[LoadedModel], operation: Operation, encodings: list[Encoding], most_threads: int
    ) -> list[Any]:
        assert queued.wait(10)
        batches.append([loaded.tag for loaded in models])
        return compute(models, operation, encodings, most_threads)

    monkeypatch.setattr(engine_module, "compute", watched)

    async def embed() -> list[list[Any]]:
        engine = Engine(Metrics(), 1000, 64, 1, 8, 10.0, cores=1)
        engine.start()
        try:
            submitted = [
                asyncio.create_task(engine.submit(loaded, "embed", [encoding], "me")) for loaded in (one, one, two, two)
            ]
            await asyncio.sleep(0.05)  # the first keeps the thread until all the others wait
            queued.set()
            return await asyncio.gather(*submitted)
        finally:
            engine.stop()

    for loaded, rows in zip((one, one, two, two), asyncio.run(embed()), strict=True):
        assert torch.allclose(torch.from_numpy(rows[0]), embedding(loaded), atol=1e-5)
    assert [len(set(batch)) for batch in batches] == [1] * len(batches)
    assert len(batches) in (2, 3), "rows of one version do share"


def test_half_a_model_is_none_and_is_made_whole(store: ModelStore, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As a killed process of an earlier version left it."""
    folder = folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "base")
    store.publish(folder, "base", "base:1", None, None)
    half = tmp_path / "bentoml" / "models" / "base" / "2"
    half.mkdir()
    (half / "config.json").write_text("{}")
    assert [card.tag for card in store.cards()] == ["base:1"]
    store.publish(folder, "other", "base:2", None, None)
    assert {card.tag for card in store.cards()} == {"base:1", "base:2"}
    bento = BentoModelStore(tmp_path / "bentoml" / "models")
    assert {str(model.tag) for model in bentoml.models.list(_model_store=bento)} == {"base:1", "base:2"}
    assert bentoml.models.get("base:latest", _model_store=bento).tag.version == "2"
    store.delete("other")
    assert bentoml.models.get("base:latest", _model_store=bento).tag.version == "1"
    assert list((tmp_path / "bentoml" / "staging").iterdir()) == []


def test_what_a_bento_brings_comes_into_the_store_once(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "base")
    ModelStore(tmp_path / "bento").publish(folder, "base", "base:1", None, None)
    store.publish(folder, "own", "own:1", None, None)
    assert Settings().bento_models is None
    monkeypatch.setenv("BENTO_PATH", str(tmp_path / "bento"))
    brought = Settings().bento_models
    assert brought is not None
    for _ in range(2):
        store.take_from(brought)
        assert {card.tag for card in store.cards()} == {"base:1", "own:1"}
    assert store.find("base").folder.is_relative_to(tmp_path / "bentoml"), "a copy that is the service's own"
    assert (tmp_path / "bentoml/models/base/latest").read_text() == "1"


def test_readers_never_meet_a_model_that_comes_or_goes(store: ModelStore, tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Two writers publish and delete without a pause while others list, BentoML's own list among them."""
    folder = folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "base")
    store.publish(folder, "kept", "kept:1", None, None)
    stop = threading.Event()
    problems: list[Exception] = []

    def read() -> None:
        try:
            while not stop.is_set():
                assert store.find("kept").tag == "kept:1"
                for card in store.cards():
                    assert card.config.task == "embeddings"
        except Exception as error:
            problems.append(error)

    def write(name: str) -> None:
        try:
            for _ in range(40):
                store.publish(folder, name, f"{name}:1", None, None)
                store.delete(name)
        except Exception as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    writers = [threading.Thread(target=write, args=(name,)) for name in ("one", "two")]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert problems == []


def test_models_leave_by_their_size_too(store: ModelStore, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = folder_of(encoder(tokenizer, 1), tokenizer, tmp_path / "base")
    for name in ("a", "b", "c"):
        store.publish(folder, name, f"{name}:1", None, None)
    size = store.find("a").weights_bytes

    async def check() -> None:
        models = Registry(store, Metrics(), torch.device("cpu"), Formats("float32"), max_resident=8, max_bytes=2 * size)
        for name in ("a", "b"):
            await models.get(name)
        assert models.resident == ["a", "b"]
        await models.get("c")
        assert models.resident == ["b", "c"]

    asyncio.run(check())


def test_a_service_stays_ready_when_other_models_push_the_default_one_out(tmp_path: Path) -> None:
    with made_house(tmp_path, "cpu") as house:
        registry = house.app.state.parts.registry
        wait_for(lambda: house.client.get("/readyz").status_code == 200, 30)
        registry._max_resident = 1
        body = {"model": house.model, "input": "red cat"}
        assert house.ask("POST", "/v1/classify", house.ann, json=body).status_code == 200
        assert registry.resident == [house.model]
        assert house.client.get("/readyz").status_code == 200
        vectors = house.ask("POST", "/v1/embeddings", house.ann, json={"model": "tiny", "input": "red"})
        assert vectors.status_code == 200


def test_models_loaded_at_the_start_leave_room_for_the_default_one(tmp_path: Path) -> None:
    """As many jobs have ended as there is room for models."""
    with made_house(tmp_path, "cpu") as house:
        settings = house.settings
    store = JobStore(Database(settings.database_url))
    with store._database.write() as session:
        for number in (1, 2, 3):
            job = session.merge(store.job(house.job))
            row = {column.name: getattr(job, column.name) for column in job.__table__.columns}
            row |= {"id": f"ftjob-{number}", "status": "succeeded", "created_at": job.created_at + number}
            row |= {"fine_tuned_model": f"ft:tiny:vitrine:mood:{number}"}
            session.add(type(job)(**row))
    store._database.close()
    app, gate = create_app(settings.model_copy(update={"max_resident_models": 3}))
    with TestClient(gate, base_url="http://localhost") as client:
        wait_for(lambda: len(app.state.parts.registry.resident) == 3, 30)
        assert "tiny" in app.state.parts.registry.resident
        assert client.get("/readyz").status_code == 200
