"""The weights of model folders: our own layout here, Hugging Face's by `huggingface/`. What a folder describes is told
by `folders.py`. Only safetensors is read: a pickle can run code when it is opened."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from model.config import TransformerConfig
from model.files import open_tensors
from model.folders import CONFIG_FILE, load_config, load_tokenizer
from model.heads import TextModel, empty_model
from model.huggingface import folder as huggingface
from model.tokenizer import Tokenizer

WEIGHTS_FILE = "model.safetensors"


def load_model(folder: Path) -> tuple[TextModel, Tokenizer]:
    """Reads a model folder of either layout -> the model in evaluation mode (float32) and its tokenizer.

    Raises ValueError when a file is missing, is of an unsupported architecture, or does not fit the config.
    """
    tokenizer = load_tokenizer(folder)
    config = load_config(folder)
    ours = (folder / CONFIG_FILE).is_file()
    tensors = read_tensors(folder / WEIGHTS_FILE) if ours else huggingface.read_tensors(folder, config)
    _check_size(config, tensors)
    model = empty_model(config)
    load_tensors(model, tensors)
    return model.eval(), tokenizer


def _check_size(config: TransformerConfig, tensors: dict[str, Tensor]) -> None:
    """A damaged config must not ask for memory that its weights do not fill."""
    described = sum(tensor.numel() for tensor in empty_model(config, "meta").state_dict().values())
    stored = sum(tensor.numel() for tensor in tensors.values())
    if described > 2 * stored:
        raise ValueError(f"weights do not fit the config: it describes {described:,} numbers, the file has {stored:,}")


def save_model(model: TextModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes a folder in our layout; the config comes last, so that a half-written folder is never taken for one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS_FILE, dict(model.state_dict()))
    tokenizer.save(folder)
    temporary = folder / f".{CONFIG_FILE}.tmp"
    temporary.write_text(json.dumps(model.config.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(temporary, folder / CONFIG_FILE)


def load_tensors(model: TextModel, tensors: dict[str, Tensor], may_miss: tuple[str, ...] = ()) -> None:
    """Copies tensors into the model. Those whose names begin with one of `may_miss`, such as a new head's
    ("classifier.", "pooler.", "language_model."), may be missing and stay as they are; all others must be there."""
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:  # a shape that differs
        raise ValueError(f"weights do not fit the config: {str(error).splitlines()[-1].strip()}") from None
    missing = [name for name in missing if not name.startswith(may_miss)]
    if missing or unexpected:
        raise ValueError(f"weights do not fit the config: missing {missing[:3]}, unexpected {unexpected[:3]}")


def read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing; only safetensors weights are read, convert the checkpoint first")
    with open_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is not a mapping


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Temporary name, flush to disk, rename: a reader sees the whole file or none. Raises OSError when it can't be
    written, and leaves nothing behind."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise error if isinstance(error, OSError) else OSError(f"{path.name} can't be written: {error}") from error
