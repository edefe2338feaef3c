"""What the model folders on disk describe, in our own layout or Hugging Face's: told without torch and without weights,
which `weights.py` and `lora.py` read.

A folder of ours holds `vitrine.json` (config), `model.safetensors` and `tokenizer.json`; an adapter's holds
`adapter.json` and `adapter.safetensors`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.config import TransformerConfig
from model.files import read_json
from model.huggingface import configs
from model.tokenizer import TOKENIZER_FILE, Tokenizer

CONFIG_FILE = "vitrine.json"
ADAPTER_CONFIG_FILE = "adapter.json"


def is_model_folder(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() or (folder / configs.CONFIG_FILE).is_file()


def load_config(folder: Path) -> TransformerConfig:
    """The config alone, of either layout: enough to describe a model without loading it."""
    if (folder / CONFIG_FILE).is_file():
        return TransformerConfig.load(folder / CONFIG_FILE)
    return configs.read_config(folder)


def load_tokenizer(folder: Path) -> Tokenizer:
    if not (folder / TOKENIZER_FILE).is_file():
        raise ValueError(f"{folder.name} has no {TOKENIZER_FILE}; save the tokenizer in the fast format first")
    return Tokenizer.load(folder)


def is_adapter_folder(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG_FILE).is_file()


def load_adapter_config(folder: Path) -> tuple[str, TransformerConfig]:
    """The base model's name and the tuned model's config."""
    fields = adapter_fields(folder)
    with told_of_adapter():
        return str(fields["base_model"]), TransformerConfig.from_dict(fields["config"])


def adapter_fields(folder: Path) -> dict[str, Any]:
    return read_json(folder / ADAPTER_CONFIG_FILE)


@contextmanager
def told_of_adapter() -> Iterator[None]:
    """Fields or tensors that are missing or of another kind are a damaged folder."""
    try:
        yield
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{ADAPTER_CONFIG_FILE} describes no adapter ({error!r}); copy the folder again") from None
