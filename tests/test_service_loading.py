"""How the registry loads a model: once, to the end, whoever waits, leaves, deletes it or replaces it meanwhile."""

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model.lora import load_adapter
from model.tokenizer import Tokenizer
from model.weights import load_model
from service.engine.runner import LoadedModel
from service.errors import NotFound
from service.model_store import ModelStore
from service.registry import LOADS_AT_ONCE, Registry
from tests.conftest import wait_for
from tests.test_service_registry import encoder, folder_of, published, registry, store, tokenizer

__all__ = ["store", "tokenizer"]  # fixtures


def loads_of(models: Registry) -> tuple[float, float]:
    """How many are counted as successes and as failures."""
    read = models._metrics.registry.get_sample_value
    success, failure = (read("vitrine_model_loads_total", {"outcome": name}) for name in ("success", "failure"))
    assert success is not None
    assert failure is not None
    return success, failure


class SlowDisk:
    """From which something is read as soon as a test lets it go on, or fails to be."""

    def __init__(self) -> None:
        self.reading, self.go_on = threading.Event(), threading.Event()
        self.reads = 0
        self.error: Exception | None = None

    def slowly(self, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def reads(folder: Path) -> Any:
            self.reads += 1
            self.reading.set()
            assert self.go_on.wait(60)
            if self.error is not None:
                raise self.error
            return read(folder)

        return reads


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    disk = SlowDisk()
    monkeypatch.setattr("service.registry.load_model", disk.slowly(load_model))
    yield disk
    disk.go_on.set()


@pytest.fixture
def slow_adapters(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    disk = SlowDisk()
    monkeypatch.setattr("service.registry.load_adapter", disk.slowly(load_adapter))
    yield disk
    disk.go_on.set()


def test_a_base_stays_while_an_adapter_over_it_is_read(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, slow_adapters: SlowDisk
) -> None:
    published(store, tokenizer, tmp_path, "xy", "pqr")

    async def check() -> None:
        models = registry(store, 3)
        loading = asyncio.create_task(models.get("x"))
        assert await asyncio.to_thread(slow_adapters.reading.wait, 60)
        for name in "pqr":
            await models.get(name)
        slow_adapters.go_on.set()
        x, y = await loading, await models.get("y")
        assert x.bank is y.bank
        assert sorted(models.resident) == ["base", "x", "y"]

    asyncio.run(check())


def test_an_adapter_that_can_not_be_read_leaves_no_more_in_memory_than_may_be(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, slow_adapters: SlowDisk
) -> None:
    published(store, tokenizer, tmp_path, "x", "p")
    slow_adapters.error = ValueError("broken")

    async def check() -> None:
        models = registry(store, 1)
        loading = asyncio.create_task(models.get("x"))
        assert await asyncio.to_thread(slow_adapters.reading.wait, 60)
        await models.get("p")
        assert models.resident == ["base", "p"]
        slow_adapters.go_on.set()
        with pytest.raises(ValueError, match="broken"):
            await loading
        assert models.resident == ["p"]

    asyncio.run(check())


def test_models_that_push_each_other_out_while_they_load_all_answer(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    names = [f"m{number}" for number in range(4)]
    for number, name in enumerate(names):
        folder = folder_of(encoder(tokenizer, number), tokenizer, tmp_path / name)
        store.publish(folder, name, f"{name}:1", None, None)

    async def check() -> None:
        models = registry(store, max_resident=1)
        for _ in range(3):
            loaded = await asyncio.gather(*(models.get(name) for name in names))
            assert [one.id for one in loaded] == names
            assert len(models.resident) == 1
            assert set(models._bytes) == set(models._owners) == set(models.resident), "what left takes no room"

    asyncio.run(check())


def test_a_model_that_is_deleted_while_it_is_read_is_not_found(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(folder_of(encoder(tokenizer, 0), tokenizer, tmp_path / "m"), "m", "m:1", None, None)
    models, read = registry(store), Registry._read

    def late(self: Registry, *found: Any) -> LoadedModel:
        store.delete("m")
        return read(self, *found)

    monkeypatch.setattr(Registry, "_read", late)
    with pytest.raises(NotFound):
        asyncio.run(models.get("m"))
    assert loads_of(models) == (0, 0), "no load that failed, of which an alert would tell"


def test_who_leaves_while_a_model_loads_does_not_end_the_load_nor_does_who_comes_begin_another(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    published(store, tokenizer, tmp_path, "", "p")

    async def check() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        models = registry(store)
        for _ in range(LOADS_AT_ONCE + 1):
            leaves = asyncio.create_task(models.get("p"))
            assert await asyncio.to_thread(slow_disk.reading.wait, 60), "the threads of all others are free"
            leaves.cancel()
            await asyncio.gather(leaves, return_exceptions=True)
        stay = [asyncio.create_task(models.get("p")) for _ in range(3)]
        await asyncio.sleep(0)
        slow_disk.go_on.set()
        one, *others = await asyncio.gather(*stay)
        assert all(other is one for other in others)
        assert models.resident == ["p"]
        assert (slow_disk.reads, loads_of(models)) == (1, (1, 0))

    asyncio.run(check())


def test_a_load_that_fails_is_told_to_all_who_wait_and_the_next_request_tries_again(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    published(store, tokenizer, tmp_path, "", "p")
    unheard: list[dict[str, Any]] = []

    async def check() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: unheard.append(told))
        models = registry(store)
        slow_disk.error = OSError("unreadable")
        waiting = [asyncio.create_task(models.get("p")) for _ in range(3)]
        assert await asyncio.to_thread(slow_disk.reading.wait, 60)
        slow_disk.go_on.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["unreadable"] * 3
        assert (slow_disk.reads, loads_of(models)) == (1, (0, 1))
        slow_disk.go_on.clear()
        slow_disk.reading.clear()
        leaves = asyncio.create_task(models.get("p"))
        assert await asyncio.to_thread(slow_disk.reading.wait, 60)
        leaves.cancel()
        slow_disk.go_on.set()
        while models._tasks:
            await asyncio.sleep(0.01)
        assert loads_of(models) == (0, 2), "whether or not anybody waits"
        slow_disk.error = None
        assert (await models.get("p")).id == "p"

    asyncio.run(check())
    gc.collect()
    assert unheard == []


def test_a_model_that_is_dropped_while_it_loads_does_not_come_back(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    published(store, tokenizer, tmp_path, "", "p")

    async def check() -> None:
        models = registry(store)
        waiting = asyncio.create_task(models.get("p"))
        assert await asyncio.to_thread(slow_disk.reading.wait, 60)
        store.delete("p")
        models.drop("p")
        with pytest.raises(NotFound):
            await models.get("p")
        store.publish(tmp_path / "p", "p", "p:2", None, None)
        successor = asyncio.create_task(models.get("p"))
        await asyncio.to_thread(wait_for, lambda: slow_disk.reads == 2, 60)
        slow_disk.go_on.set()
        assert (await successor) is (await models.get("p"))
        assert (await waiting).tag == (await successor).tag == "p:2", "what it read of was gone"
        assert loads_of(models) == (2, 0)

    asyncio.run(check())


def test_a_stop_ends_what_is_being_loaded(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    published(store, tokenizer, tmp_path, "x", "")
    models = registry(store)

    async def check() -> None:
        waiting = asyncio.create_task(models.get("x"))  # and with it its base
        assert await asyncio.to_thread(slow_disk.reading.wait, 60)
        await models.stop()
        assert (models._tasks, models._loads, models._awaited, models.resident) == (set(), {}, [], [])
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(check())
    slow_disk.go_on.set()


def test_a_load_that_its_event_loop_left_behind_is_begun_anew_in_another(
    store: ModelStore, tokenizer: Tokenizer, tmp_path: Path, slow_disk: SlowDisk
) -> None:
    published(store, tokenizer, tmp_path, "", "p")
    models = registry(store)

    async def leave() -> None:
        asyncio.create_task(models.get("p"))  # noqa: RUF006
        assert await asyncio.to_thread(slow_disk.reading.wait, 60)

    asyncio.run(leave())
    slow_disk.go_on.set()
    assert asyncio.run(models.get("p")).id == "p"
