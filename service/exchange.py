"""Models between the store and Hugging Face folders; loads torch, on demand. Called by `models_cli.py`."""

import hashlib
import re
import tempfile
from pathlib import Path

from huggingface_hub import snapshot_download

from model.folders import is_adapter_folder, is_model_folder, load_adapter_config
from model.heads import TextModel
from model.huggingface.folder import write_folder
from model.lora import AdapterBank, load_adapter, merge, save_adapter, sha256_of_body
from model.tokenizer import Tokenizer
from model.weights import load_model, save_model
from service.errors import NotFound
from service.model_store import ModelStore, check_name
from service.settings import Settings

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_FILES = ["*.json", "*.safetensors", "*.txt"]  # never a pickle


def import_model(source: str, name: str | None, revision: str | None, settings: Settings) -> str:
    """Loads a model or adapter, which checks it, and publishes it in our layout -> its BentoML tag. Idempotent."""
    model_id = name if name is not None else name_of(source)
    check_name(model_id)
    folder = Path(source) if Path(source).is_dir() else fetch(source, revision, settings.cache / "huggingface")
    store = ModelStore.of(settings)
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.cache) as temporary:
        if is_adapter_folder(folder):
            base_model = copy_adapter(folder, store, Path(temporary))
        elif is_model_folder(folder):
            base_model = None
            copy_model(folder, Path(temporary))
        else:
            raise ValueError(f"{source} has neither config.json nor adapter.json; name a folder with a model")
        tag = f"{model_id}:{_sha256(Path(temporary))[:12]}"
        if other := next((card.tag for card in store.cards() if card.id == model_id and card.tag != tag), None):
            raise ValueError(f"model {model_id!r} is in the store with other content ({other}); choose another --name")
        store.publish(Path(temporary), model_id, tag, base_model, None)
    return tag


def copy_model(folder: Path, target: Path) -> None:
    """Writes a model in our layout. Raises ValueError when it is broken."""
    model, tokenizer = load_model(folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}; "
            "do they belong together?"
        )
    save_model(model, tokenizer, target)


def copy_adapter(folder: Path, store: ModelStore, target: Path) -> str:
    """Writes what `vitrine finetune --adapter lora` left -> its base. Raises ValueError when the store lacks that."""
    base_model, _ = load_adapter_config(folder)
    adapter = load_adapter(folder)
    known = store.bases()
    if base_model not in known:
        raise ValueError(
            f"{folder} is an adapter over {base_model!r}, which is no base in the store; import that "
            "under this name first"
        )
    base, _ = load_model(known[base_model])
    if adapter.body_sha256 not in (None, sha256_of_body(base)):
        raise ValueError(
            f"{folder} was trained over another {base_model!r} than the one in the store; tune it again over this one"
        )
    AdapterBank(base).add(adapter)
    save_adapter(adapter, base_model, target)
    return base_model


def name_of(source: str) -> str:
    """The last part of a path or hub id, as BentoML allows it: `google-bert/BERT base` -> `bert-base`."""
    last = Path(source).absolute().name.lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last)[:63].strip("-._")


def fetch(hub_id: str, revision: str | None, cache: Path) -> Path:
    """A model of the hub -> the folder it was fetched into; JSON, text and safetensors files only."""
    if not HUB_ID.fullmatch(hub_id):
        raise ValueError(
            f"{hub_id!r} is neither a folder nor an id on the Hugging Face hub, such as 'openai-community/gpt2'"
        )
    try:
        return Path(snapshot_download(hub_id, revision=revision, cache_dir=cache, allow_patterns=HUB_FILES))
    except Exception as error:  # the errors of the hub's client have no base in common
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{hub_id!r} is no folder here, and could not be fetched from the Hugging Face hub ({reason}); check the "
            "name and the network, set HF_TOKEN for a private model, or copy its folder here and import that"
        ) from error


def export_model(model_id: str, folder: Path, layout: str | None, settings: Settings) -> Path:
    """Writes a model of the store as a Hugging Face folder -> that folder. An adapter is merged into its base."""
    store = ModelStore.of(settings)
    try:
        model, tokenizer = _load(store, model_id)
    except NotFound as error:
        raise ValueError(error.message) from error
    write_folder(model, tokenizer, folder, layout)
    return folder


def _load(store: ModelStore, model_id: str) -> tuple[TextModel, Tokenizer]:
    folder = store.find(model_id).folder
    if not is_adapter_folder(folder):
        return load_model(folder)
    base_id, _ = load_adapter_config(folder)
    base, tokenizer = load_model(store.find(base_id).folder)
    return merge(base, load_adapter(folder)), tokenizer


def _sha256(folder: Path) -> str:
    """Over weights, config and tokenizer: the same weights under other labels are another model."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
