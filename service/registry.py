"""The models of the service: BentoML's model store on disk, the ones in use in memory.

Any process finds a model that another one published: a name that is not in memory is looked up in the store.
"""

import asyncio
import shutil
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bentoml
import torch
from bentoml.exceptions import NotFound as BentoNotFound
from bentoml.models import Model as StoredModel

from model.config import TransformerConfig
from model.lora import AdapterBank, is_adapter_folder, load_adapter, load_adapter_config
from model.weights import load_config, load_model
from service.engine.runner import LoadedModel, Operation, run
from service.errors import Conflict, NotFound
from service.jobs.tables import LOCAL_OWNER
from service.metrics import Metrics


@dataclass(frozen=True)
class ModelCard:
    """What `/v1/models` tells of one model."""

    id: str
    tag: str  # BentoML name:version
    folder: Path
    created_at: int
    owner: str | None  # None: everyone's, as the bases are
    base_model: str | None
    config: TransformerConfig
    metrics: dict[str, Any] | None
    adapter: bool  # a LoRA adapter, served over its base model


class ModelStore:
    """Our names over BentoML's store. Used by the service, the job worker and the command line."""

    def __init__(self, bentoml_home: Path) -> None:
        from bentoml._internal.models import ModelStore as BentoModelStore  # the public API takes it as an argument

        folder = bentoml_home / "models"
        folder.mkdir(parents=True, exist_ok=True)
        self._store = BentoModelStore(folder)

    def publish(
        self, folder: Path, model_id: str, tag: str, base_model: str | None, metrics: dict[str, Any] | None,
        owner: str | None = None,
    ) -> None:  # fmt: skip
        """Copies a model folder into the store under `tag`; a second call with the same tag changes nothing."""
        if self._get(tag) is not None:
            return
        fields = {"vitrine_id": model_id, "base_model": base_model, "metrics": metrics, "owner": owner}
        metadata = {name: value for name, value in fields.items() if value is not None}  # BentoML refuses None
        with bentoml.models.create(tag, metadata=metadata, _model_store=self._store) as stored:
            shutil.copytree(folder, stored.path, dirs_exist_ok=True)

    def replace(self, folder: Path, model_id: str, tag: str) -> None:
        """Publishes a base in the place of the one with this name, if any. The new one comes first, so that the name
        always answers. Raises Conflict while adapters need the old one."""
        old = [card for card in self.cards() if card.id == model_id and card.tag != tag]
        if old:
            self._check_unneeded(model_id)
        self.publish(folder, model_id, tag, None, None)
        for card in old:
            bentoml.models.delete(card.tag, _model_store=self._store)

    def cards(self, owner: str | None = None) -> list[ModelCard]:
        """Every Vitrine model in the store that this owner may use (None: all), newest first."""
        models = bentoml.models.list(_model_store=self._store)
        newest_first = sorted(models, key=lambda model: (model.info.creation_time, str(model.tag)), reverse=True)
        found = [card for model in newest_first if (card := self._card(model)) is not None]
        return [card for card in found if owner is None or card.owner in (None, owner)]

    def bases(self) -> dict[str, Path]:
        """The folders of all models that were not tuned from another one, by id."""
        return {card.id: card.folder for card in self.cards() if card.base_model is None}

    def find(self, model_id: str, owner: str | None = None) -> ModelCard:
        """Raises NotFound for a name that no model of this owner has (None: none at all)."""
        cards = self.cards(owner)
        for card in cards:
            if card.id == model_id:
                return card
        known = ", ".join(card.id for card in cards[:10]) or "none yet"
        raise NotFound(f"model {model_id!r} does not exist; this service has: {known}", "model", "model_not_found")

    def delete(self, model_id: str) -> None:
        """Raises NotFound, and Conflict while adapters need the model."""
        tag = self.find(model_id).tag
        self._check_unneeded(model_id)
        bentoml.models.delete(tag, _model_store=self._store)

    def _check_unneeded(self, model_id: str) -> None:
        if adapters := [card.id for card in self.cards() if card.adapter and card.base_model == model_id]:
            raise Conflict(f"{model_id} is the base of the adapter {adapters[0]}; delete that first", "model")

    def _get(self, tag: str) -> StoredModel | None:
        try:
            return bentoml.models.get(tag, _model_store=self._store)
        except BentoNotFound:
            return None

    @staticmethod
    def _card(model: StoredModel) -> ModelCard | None:
        metadata = dict(model.info.metadata)
        if "vitrine_id" not in metadata:  # another framework's model in a shared store
            return None
        folder = Path(model.path)
        base_model = metadata.get("base_model")
        adapter = is_adapter_folder(folder)
        return ModelCard(
            id=str(metadata["vitrine_id"]),
            tag=str(model.tag),
            folder=folder,
            created_at=int(model.info.creation_time.timestamp()),
            owner=str(metadata.get("owner") or LOCAL_OWNER) if base_model else None,
            base_model=str(base_model) if base_model else None,
            config=load_adapter_config(folder)[1] if adapter else load_config(folder),
            metrics=metadata.get("metrics") or None,
            adapter=adapter,
        )


class Registry:
    """Models in memory, the least recently used dropped first. Loading is off the event loop and once a model."""

    def __init__(
        self, store: ModelStore, metrics: Metrics, device: torch.device, bfloat16: bool, max_resident: int
    ) -> None:
        self.store = store
        self.bfloat16 = bfloat16
        self._metrics = metrics
        self._device = device
        self._max_resident = max_resident
        self._resident: OrderedDict[str, LoadedModel] = OrderedDict()
        self._owners: dict[str, str | None] = {}  # of those that are resident
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def dtype(self) -> str:
        return "bfloat16" if self.bfloat16 else "float32"

    @property
    def resident(self) -> list[str]:
        return list(self._resident)

    async def get(self, model_id: str, owner: str | None = None) -> LoadedModel:
        """The model, loaded and warmed up. Raises NotFound for a name that no model of this owner has (None: none at
        all)."""
        loaded = self._resident.get(model_id)
        if owner is not None and (loaded is None or self._owners.get(model_id) not in (None, owner)):
            await asyncio.to_thread(self.store.find, model_id, owner)
        if loaded is None:
            lock = self._locks.setdefault(model_id, asyncio.Lock())
            try:
                async with lock:
                    loaded = self._resident.get(model_id) or await self._load(model_id)
            finally:
                if not lock.locked():
                    self._locks.pop(model_id, None)
        self._resident.move_to_end(model_id)
        return loaded

    def drop(self, model_id: str) -> None:
        self._resident.pop(model_id, None)
        self._owners.pop(model_id, None)

    async def drop_deleted(self) -> None:
        """Forgets models that another process deleted from the store, or replaced by others of their name."""
        before = list(self._resident.values())
        cards = await asyncio.to_thread(self.store.cards)
        current = {card.id: card.tag for card in reversed(cards)}  # of several with one name, the newest
        for loaded in before:
            if current.get(loaded.id) != loaded.tag or loaded.base_tag not in current.values():
                self.drop(loaded.id)

    async def _load(self, model_id: str) -> LoadedModel:
        card = await asyncio.to_thread(self.store.find, model_id)
        base = await self.get(load_adapter_config(card.folder)[0]) if card.adapter else None
        try:
            loaded = await asyncio.to_thread(self._read, card, base)
        except Exception:
            self._metrics.model_load("failure")
            raise
        self._metrics.model_load("success")
        self._resident[model_id], self._owners[model_id] = loaded, card.owner
        self._make_room(loaded)
        return loaded

    def _make_room(self, newest: LoadedModel) -> None:
        """Drops the least recently used models; a base stays as long as an adapter over it does."""
        while len(self._resident) > self._max_resident:
            needed = {newest.tag} | {loaded.base_tag for loaded in self._resident.values() if loaded.slot}
            spare = next((loaded.id for loaded in self._resident.values() if loaded.tag not in needed), None)
            if spare is None:  # an adapter and its base, where the limit is one
                return
            self.drop(spare)

    def _read(self, card: ModelCard, base: LoadedModel | None) -> LoadedModel:
        if base is None:
            model, tokenizer = load_model(card.folder)
            if self.bfloat16:
                model.stack.to(torch.bfloat16)  # heads stay in float32: they are small, and rounding shows there
            bank = AdapterBank(model.to(self._device))
            loaded = LoadedModel(card.id, card.tag, card.config, bank, tokenizer, self.dtype, card.tag)
        else:
            slot = base.bank.add(load_adapter(card.folder))
            bank, tokenizer, tag = base.bank, base.tokenizer, base.tag
            loaded = LoadedModel(card.id, card.tag, card.config, bank, tokenizer, self.dtype, tag, slot)
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
    if config.architecture != "encoder_decoder":
        routes.append("/v1/attention")
    return [*routes, "/v1/tokenize"]


def pick_device(setting: str) -> torch.device:
    """'auto' takes a GPU when there is one."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(setting)
