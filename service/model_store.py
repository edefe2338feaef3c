"""The models of the service on disk: our names over BentoML's model store. Used by all of its processes and by the
command line; it loads no torch, so that who only looks need not wait for that.

A model is there whole or not at all, whoever is killed when: it is made and deleted elsewhere on the same disk, and one
rename brings it in or takes it out.
"""

import contextlib
import logging
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException
from bentoml.models import Model as StoredModel

from model.config import TransformerConfig
from model.folders import is_adapter_folder, load_adapter_config, load_config
from service.artefacts import MODELS, Artefacts
from service.errors import ArtefactsUnavailable, Conflict, NotFound
from service.settings import Settings
from service.tables import LOCAL_OWNER

MODEL_FILE = "model.yaml"  # of each version of a model in BentoML's store
TAG_MARK = "@"  # for the colon of a tag, which not every store allows in a name
MODEL_ID = re.compile(r"[a-z0-9]([-._a-z0-9]{0,61}[a-z0-9])?")  # BentoML's rule for a name
FOLLOW_SECONDS = 1.0
STAGING_SECONDS = 3600.0  # no copy takes longer
log = logging.getLogger("vitrine.models")


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

    @property
    def weights_bytes(self) -> int:
        """On disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))


@dataclass(frozen=True)
class _Known:
    """What was read of a model; it never changes under its tag."""

    written: int  # the time of its file, in nanoseconds
    made: tuple[datetime, str]  # in this order
    card: ModelCard | None  # None: another framework's model in a shared store


class ModelStore:
    """Our names over BentoML's store. Used by the service, the job worker and the command line."""

    def __init__(self, bentoml_home: Path, artefacts: Artefacts | None = None) -> None:
        self._folder = bentoml_home / "models"
        self._staging = bentoml_home / "staging"
        self._shared = bentoml_home / "shared"  # an empty file for each model here that all hosts have
        for folder in (self._folder, self._staging, self._shared):
            folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[Path, _Known] = {}  # by its file
        self._artefacts = artefacts
        self._following = threading.Lock()
        self._followed_at = -math.inf  # time.monotonic()

    @classmethod
    def of(cls, settings: Settings) -> "ModelStore":
        return cls(settings.bentoml_home, Artefacts.of(settings.artefacts, settings.shared))

    def publish(
        self, folder: Path, model_id: str, tag: str, base_model: str | None, metrics: dict[str, Any] | None,
        owner: str | None = None,
    ) -> None:  # fmt: skip
        """Copies a model folder into the store under `tag`; a second call with the same tag changes nothing."""
        from bentoml._internal.models import ModelStore as BentoModelStore  # the public API takes it as an argument

        target = self._path(tag)
        if (target / MODEL_FILE).is_file():
            self._share(tag)
            return
        fields = {"vitrine_id": model_id, "base_model": base_model, "metrics": metrics, "owner": owner}
        metadata = {name: value for name, value in fields.items() if value is not None}  # BentoML refuses None
        with self._aside() as aside:
            with bentoml.models.create(tag, metadata=metadata, _model_store=BentoModelStore(aside)) as stored:
                shutil.copytree(folder, stored.path, dirs_exist_ok=True)
            if target.exists():  # half a model, of an earlier version that was killed
                target.rename(aside / "half")
            self._bring_in(aside / target.parent.name / target.name, target)
        self._share(tag)

    @staticmethod
    def _bring_in(folder: Path, target: Path) -> None:
        """By one rename."""
        target.parent.mkdir(exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not (target / MODEL_FILE).is_file():  # else somebody was faster
                raise
        latest = target.parent / f".latest.{os.getpid()}"  # BentoML's mark of what `name:latest` means
        latest.write_text(target.name, encoding="utf-8")
        latest.replace(target.parent / "latest")

    def replace(self, folder: Path, model_id: str, tag: str) -> None:
        """Publishes a base in the place of the one with this name, if any. The new one comes first, so that the name
        always answers. Raises Conflict while adapters need the old one."""
        old = [card for card in self.cards() if card.id == model_id and card.tag != tag]
        if old:
            self._check_unneeded(model_id)
        self.publish(folder, model_id, tag, None, None)
        for card in old:
            self._remove(card.tag)

    def take_from(self, models: Path) -> None:
        """Brings in what another store of BentoML's has and this one lacks: the models that lie in a bento."""
        for brought in (file.parent for file in models.glob(f"*/*/{MODEL_FILE}")):
            target = self._folder / brought.parent.name / brought.name
            if (target / MODEL_FILE).is_file():
                continue
            with self._aside() as aside:
                shutil.copytree(brought, aside / brought.name)
                self._bring_in(aside / brought.name, target)
            self._share(f"{target.parent.name}:{target.name}")

    def share_all(self) -> None:
        """Gives to all hosts what is here: models from before there were artefacts, and those of a process that was
        killed while it published."""
        for card in self.cards():
            self._share(card.tag)

    def cards(self, owner: str | None = None) -> list[ModelCard]:
        """Every Vitrine model in the store that this owner may use (None: all), newest first."""
        self._follow()
        newest_first = sorted(self._models(), key=lambda known: known.made, reverse=True)
        cards = [known.card for known in newest_first if known.card is not None]
        return [card for card in cards if owner is None or card.owner in (None, owner)]

    def bases(self) -> dict[str, Path]:
        """The folders of all models that were not tuned from another one, by id."""
        return {card.id: card.folder for card in self.cards() if card.base_model is None}

    def find(self, model_id: str, owner: str | None = None) -> ModelCard:
        """Raises NotFound for a name that no model of this owner has (None: none at all), and ArtefactsUnavailable for
        one that this host lacks while it can't ask whether another has published it."""
        for now in (False, True):  # another host may have published it since the last look
            if now and not self._follow(now=True):
                break
            cards = self.cards(owner)
            for card in cards:
                if card.id == model_id:
                    return card
        known = ", ".join(card.id for card in cards[:10]) or "none yet"
        raise NotFound(
            f"model {model_id[:200]!r} does not exist; this service has: {known}", "model", "model_not_found"
        )

    def delete(self, model_id: str) -> None:
        """Raises NotFound, and Conflict while adapters need the model."""
        tag = self.find(model_id).tag
        self._check_unneeded(model_id)
        self._remove(tag)

    def _check_unneeded(self, model_id: str) -> None:
        if adapters := [card.id for card in self.cards() if card.adapter and card.base_model == model_id]:
            raise Conflict(f"{model_id} is the base of the adapter {adapters[0]}; delete that first", "model")

    def _models(self) -> list[_Known]:
        """Asked for every second, and YAML, JSON and weights' headers are slow to read."""
        found: dict[Path, _Known] = {}
        for path in self._folder.glob(f"*/*/{MODEL_FILE}"):
            try:
                written = path.stat().st_mtime_ns
                known = self._known.get(path)
                if known is not None and known.written == written:
                    found[path] = known
                    continue
                stored = StoredModel.from_path(path.parent)
            except (BentoMLException, OSError):  # deleted at this very moment, or nothing that this process may read
                continue
            try:
                found[path] = _Known(written, (stored.info.creation_time, str(stored.tag)), self._card(stored))
            except (OSError, ValueError):
                if path.is_file():  # else it was deleted at this very moment
                    raise
        self._known = found
        return list(found.values())

    def _share(self, tag: str) -> None:
        """Gives a model of this host to all. One that is left half is given whole when it is published again."""
        if self._artefacts is None or (self._shared / _file_name(tag)).exists():
            return
        self._artefacts.put_folder(self._path(tag), _name(tag))
        (self._shared / _file_name(tag)).touch()

    def _follow(self, now: bool = False) -> bool:
        """Takes what other hosts have published, drops what they have deleted, at most once in FOLLOW_SECONDS unless
        it must be now -> whether it was done. Without the shared store this host goes on with what it has; what must
        be now raises ArtefactsUnavailable."""
        if self._artefacts is None:
            return False
        if not self._following.acquire(blocking=now):  # models may be large: who knows enough does not wait for them
            return False
        try:
            if not now and time.monotonic() - self._followed_at < FOLLOW_SECONDS:
                return False
            self._followed_at = time.monotonic()
            names = {path.name for path in self._shared.iterdir()}  # first: one may come now
            here = {name.replace(TAG_MARK, ":") for name in names if not name.startswith(".")}
            there = {name.replace(TAG_MARK, ":") for name in self._artefacts.folders(MODELS)}
            for tag in sorted(there - here):
                self._take(tag, self._artefacts)
            for tag in here - there:
                self._take_out(tag)
            return True
        except ArtefactsUnavailable:
            if now:
                raise
            log.warning("the store of artefacts does not answer; models of other hosts wait", exc_info=True)
            return False
        finally:
            self._following.release()

    def _take(self, tag: str, artefacts: Artefacts) -> None:
        """A model that another host has published."""
        target = self._path(tag)
        if not (target / MODEL_FILE).is_file():
            with self._aside() as aside:
                if not artefacts.get_folder(_name(tag), aside / target.name):
                    return  # deleted at this very moment
                self._bring_in(aside / target.name, target)
        (self._shared / _file_name(tag)).touch()

    def _remove(self, tag: str) -> None:
        """For all hosts, then here."""
        if self._artefacts is not None:
            self._artefacts.delete_folder(_name(tag))
        self._take_out(tag)

    def _take_out(self, tag: str) -> None:
        path = self._path(tag)
        (self._shared / _file_name(tag)).unlink(missing_ok=True)
        with self._aside() as aside, contextlib.suppress(FileNotFoundError):
            path.rename(aside / path.name)
        with contextlib.suppress(FileNotFoundError):
            if (path.parent / "latest").read_text(encoding="utf-8").strip() == path.name:
                (path.parent / "latest").unlink()  # BentoML finds the newest of the others by itself

    def _path(self, tag: str) -> Path:
        name, _, version = tag.partition(":")
        return self._folder / name / version

    @contextlib.contextmanager
    def _aside(self) -> Iterator[Path]:
        """A folder on the same disk; what killed processes left there goes."""
        for left in self._staging.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > STAGING_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=self._staging) as folder:
            yield Path(folder)

    @staticmethod
    def _card(model: StoredModel) -> ModelCard | None:
        metadata = dict(model.info.metadata)
        if "vitrine_id" not in metadata:
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


def check_name(model_id: str) -> None:
    """Raises ValueError for a name that no model can have."""
    if not MODEL_ID.fullmatch(model_id):
        raise ValueError(
            f"name {model_id!r} can't be used; take at most 63 lower-case letters, digits, '_', '-' and '.', with a "
            "letter or digit at both ends"
        )


def _file_name(tag: str) -> str:
    return tag.replace(":", TAG_MARK)


def _name(tag: str) -> str:
    """Among the artefacts."""
    return f"{MODELS}/{_file_name(tag)}"
