"""The models in memory, the ones in use. A name that is not there is looked up in the store (`model_store.py`), so any
process finds a model that another one published."""

import asyncio
import contextlib
import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch

from model.config import TransformerConfig
from model.folders import load_adapter_config
from model.heads import TextModel
from model.lora import AdapterBank, load_adapter
from model.weights import load_model
from service.engine.graphs import Graphs
from service.engine.programs import Program
from service.engine.runner import LoadedModel, Operation, run
from service.errors import NotFound
from service.formats import Formats, convert
from service.heap import give_back
from service.metrics import Metrics
from service.model_store import ModelCard, ModelStore

LOADS_AT_ONCE = 4  # in threads of their own: a slow disk holds up nothing but models
Result = TypeVar("Result")
log = logging.getLogger("vitrine.registry")


class Registry:
    """Models in memory, the least recently used dropped first. Loading is off the event loop and once a model, whoever
    of those who wait for it leaves."""

    def __init__(
        self,
        store: ModelStore,
        metrics: Metrics,
        device: torch.device,
        formats: Formats,
        max_resident: int,
        max_bytes: int = 0,
        graphs: bool = True,
        programs: bool = True,
    ) -> None:
        """At most `max_resident` models stay, of at most `max_bytes` together (0: no such limit). With `graphs` passes
        are recorded on a GPU, with `programs` on a CPU, where that is possible."""
        self.store = store
        self._formats = formats
        self._metrics = metrics
        self._device = device
        self._max_resident = max_resident
        self._max_bytes = max_bytes
        self._graphs, self._programs = graphs, programs
        self._bytes: dict[str, int] = {}  # of those that are resident, by their weights on disk
        self._known: set[str] = set()  # loaded at some time by this process
        self._resident: OrderedDict[str, LoadedModel] = OrderedDict()
        self._owners: dict[str, str | None] = {}  # of those that are resident
        self._loads: dict[str, asyncio.Task[LoadedModel]] = {}  # of models that will be resident
        self._tasks: set[asyncio.Task[LoadedModel]] = set()  # these, and loads of models that were dropped meanwhile
        self._threads = ThreadPoolExecutor(LOADS_AT_ONCE, "vitrine-loader")
        self._awaited: list[str] = []  # the bases of adapters that are being loaded

    def dtype_of(self, card: ModelCard) -> str:
        """The number format in which it is served."""
        base = card.base_model if card.adapter else card.id
        return self._formats.of_model(base or card.id, card.config)

    def recorded_passes(self, model_id: str) -> int | None:
        """How many of its passes run as a whole in this process; None where they are not recorded, as those of adapters
        and of what is not in memory."""
        loaded = self._resident.get(model_id)
        if loaded is None or loaded.slot or loaded.recorded is None or loaded.recorded.failed:
            return None
        return len(loaded.recorded)

    @property
    def resident(self) -> list[str]:
        return list(self._resident)

    def has_loaded(self, model_id: str) -> bool:
        """Whether this process has had it in memory, and so can have it again."""
        return model_id in self._known

    async def get(self, model_id: str, owner: str | None = None) -> LoadedModel:
        """The model, loaded and warmed up. Raises NotFound for a name that no model of this owner has (None: none at
        all)."""
        found = self._resident.get(model_id)
        if owner is not None and (found is None or self._owners.get(model_id) not in (None, owner)):
            await asyncio.to_thread(self.store.find, model_id, owner)
        loaded = found or self._resident.get(model_id) or await self._loaded(model_id)
        if model_id in self._resident:  # another may have taken its place as soon as it was loaded
            self._resident.move_to_end(model_id)
        return loaded

    async def stop(self) -> None:
        """Ends the loads that run; what a thread still reads is for nobody."""
        for load in self._tasks:
            load.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def drop(self, model_id: str) -> None:
        """A load that runs is for those alone who wait for it already."""
        self._loads.pop(model_id, None)
        self._resident.pop(model_id, None)
        self._owners.pop(model_id, None)
        self._bytes.pop(model_id, None)

    async def drop_deleted(self) -> None:
        """Forgets models that another process deleted from the store, or replaced by others of their name."""
        before = list(self._resident.values())
        cards = await asyncio.to_thread(self.store.cards)
        current = {card.id: card.tag for card in reversed(cards)}  # of several with one name, the newest
        gone = [
            loaded.id
            for loaded in before
            if current.get(loaded.id) != loaded.tag or loaded.base_tag not in current.values()
        ]
        for model_id in gone:
            self.drop(model_id)
        if gone:
            del before
            await asyncio.to_thread(give_back)

    async def _loaded(self, model_id: str) -> LoadedModel:
        """By the one load of this model, begun when there is none."""
        load = self._loads.get(model_id)
        if load is None:
            load = self._loads[model_id] = asyncio.create_task(self._load_counted(model_id))
            self._tasks.add(load)
            load.add_done_callback(partial(self._end, model_id))
        return await asyncio.shield(load)

    def _end(self, model_id: str, load: asyncio.Task[LoadedModel]) -> None:
        self._tasks.discard(load)
        if self._loads.get(model_id) is load:
            del self._loads[model_id]
        if not load.cancelled():
            load.exception()  # known to whoever waits, and to the log if nobody does

    async def _load_counted(self, model_id: str) -> LoadedModel:
        """A model that is not there, or not any more, is no load."""
        try:
            loaded = await self._load(model_id)
        except NotFound:
            raise
        except Exception:
            self._metrics.model_load("failure")
            log.exception("model %s could not be loaded", model_id)
            raise
        finally:
            if self._make_room():
                await asyncio.to_thread(give_back)
        self._metrics.model_load("success")
        return loaded

    async def _load(self, model_id: str) -> LoadedModel:
        card = await self._in_thread(self.store.find, model_id)
        if not card.adapter:
            return await self._take_in(card, None)
        base_id, _ = await self._in_thread(load_adapter_config, card.folder)
        with self._awaiting(base_id):
            return await self._take_in(card, await self.get(base_id))

    @contextlib.contextmanager
    def _awaiting(self, base_id: str) -> Iterator[None]:
        """Within, an adapter over this base is being loaded."""
        self._awaited.append(base_id)
        try:
            yield
        finally:
            self._awaited.remove(base_id)

    async def _take_in(self, card: ModelCard, base: LoadedModel | None) -> LoadedModel:
        try:
            loaded = await self._in_thread(self._read, card, base)
            size = await self._in_thread(lambda: card.weights_bytes)
        except Exception:
            now = await self._in_thread(self.store.find, card.id)  # raises NotFound for one that was deleted meanwhile
            if now.tag != card.tag:
                return await self._load(card.id)  # which has taken its place
            raise
        self._known.add(card.id)
        if self._loads.get(card.id) is asyncio.current_task():  # else it was dropped meanwhile
            self._resident[card.id], self._owners[card.id], self._bytes[card.id] = loaded, card.owner, size
        return loaded

    async def _in_thread(self, function: Callable[..., Result], *given: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *given)

    def _make_room(self) -> bool:
        """Drops the least recently used models, never the last one -> whether any was. A base stays as long as an
        adapter over it does or is being loaded, or else another copy of it would be read beside the first."""
        dropped = False
        while len(self._resident) > self._max_resident or 0 < self._max_bytes < sum(self._bytes.values()):
            kept, last = list(self._resident.values()), next(reversed(self._resident))
            bases = {loaded.base_tag for loaded in kept if loaded.slot}
            spares = (loaded.id for loaded in kept if loaded.tag not in bases and loaded.id not in self._awaited)
            spare = next((model_id for model_id in spares if model_id != last), None)
            if spare is None:  # an adapter and its base, where the limit is one
                break
            self.drop(spare)
            dropped = True
        return dropped

    def _record(self, model: TextModel) -> Graphs | Program | None:
        graphs = Graphs.of(model, self._device) if self._graphs else None
        return Program.of(model, self._device) if graphs is None and self._programs else graphs

    def _read(self, card: ModelCard, base: LoadedModel | None) -> LoadedModel:
        if base is None:
            model, tokenizer = load_model(card.folder)
            dtype = self.dtype_of(card)
            convert(model, tokenizer, dtype)
            bank = AdapterBank(model.to(self._device))
            recorded = self._record(bank.base)
            loaded = LoadedModel(card.id, card.tag, card.config, bank, tokenizer, dtype, card.tag, recorded=recorded)
        else:
            slot = base.bank.add(load_adapter(card.folder))
            bank, tokenizer, tag = base.bank, base.tokenizer, base.tag
            loaded = LoadedModel(card.id, card.tag, card.config, bank, tokenizer, base.dtype, tag, slot, base.recorded)
            weakref.finalize(loaded, base.bank.remove, slot)  # when no request holds it any more
        _warm_up(loaded)
        return loaded


def _warm_up(loaded: LoadedModel) -> None:
    """The first forward pass pays for memory and kernels, the first mask for a tokenizer; no request should."""
    for operation in operations_of(loaded.config):
        masks = operation == "fill_mask"
        text = loaded.tokenizer.mask_token if masks else "warm-up"
        if text is not None:
            encodings = loaded.tokenizer.encode([text] * 8, loaded.config.max_positions, masks=masks)
            run([loaded] * 8, operation, encodings)


def operations_of(config: TransformerConfig) -> list[Operation]:
    """What a model of this kind can answer in the fast lane."""
    if config.architecture == "encoder_decoder":
        return []
    by_task: dict[str, list[Operation]] = {"tagging": ["tag"], "masked_lm": ["fill_mask"]}
    if config.task in ("classification", "multi_label", "regression"):
        return ["embed", "classify"]
    return ["embed", *by_task.get(config.task, [])]


def routes_of(config: TransformerConfig) -> list[str]:
    """The routes that answer for a model of this kind, for `/v1/models`."""
    names: dict[Operation, str] = {
        "embed": "/v1/embeddings", "classify": "/v1/classify", "tag": "/v1/tag", "fill_mask": "/v1/fill-mask"
    }  # fmt: skip
    routes = [names[operation] for operation in operations_of(config)]
    if config.task in ("causal_lm", "seq2seq"):
        routes.append("/v1/completions")
    routes.append("/v1/attention")
    if config.architecture != "encoder_decoder":
        routes.append("/v1/trace")
    if "classify" in operations_of(config) or config.task == "causal_lm":
        routes.append("/v1/explain")
    return [*routes, "/v1/tokenize"]
