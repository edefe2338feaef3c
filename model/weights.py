"""Model folders on disk: our own layout, and Hugging Face BERT checkpoints read by our own map of names.

A folder holds `vitrine.json` (config), `model.safetensors` and `tokenizer.json`. Only safetensors is read:
a pickle can run code when it is opened.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import Tokenizer

CONFIG_FILE = "vitrine.json"
WEIGHTS_FILE = "model.safetensors"

# Hugging Face BERT name -> ours, one rule a line; {n} is the layer. Query, key and value become rows of one matrix.
BERT_NAMES = {
    "embeddings.word_embeddings.weight": "encoder.embeddings.token.weight",
    "embeddings.position_embeddings.weight": "encoder.embeddings.position.embedding.weight",
    "embeddings.token_type_embeddings.weight": "encoder.embeddings.segment.weight",
    "embeddings.LayerNorm.": "encoder.embeddings.norm.",
    "encoder.layer.{n}.attention.output.dense.": "encoder.layers.{n}.attention.output.",
    "encoder.layer.{n}.attention.output.LayerNorm.": "encoder.layers.{n}.attention_norm.",
    "encoder.layer.{n}.intermediate.dense.": "encoder.layers.{n}.feed_forward.expand.",
    "encoder.layer.{n}.output.dense.": "encoder.layers.{n}.feed_forward.contract.",
    "encoder.layer.{n}.output.LayerNorm.": "encoder.layers.{n}.feed_forward_norm.",
}
QKV_NAME = re.compile(r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.(weight|bias)")
# Buffers and heads that our encoder has no use for: mean pooling replaces BERT's pooler.
IGNORED_NAMES = re.compile(r"embeddings\.position_ids|pooler\..*|cls\..*")


def is_model_folder(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file() or (folder / "config.json").is_file()


def load_model(folder: Path) -> tuple[TextModel, Tokenizer]:
    """Reads a model folder of either layout -> the model in evaluation mode (float32) and its tokenizer.

    Raises ValueError when a file is missing, is of an unsupported architecture, or does not fit the config.
    """
    tokenizer = load_tokenizer(folder)
    if (folder / CONFIG_FILE).is_file():
        config = TransformerConfig.load(folder / CONFIG_FILE)
        tensors = read_tensors(folder / WEIGHTS_FILE)
    else:
        config = config_from_bert(_read_json(folder / "config.json"))
        tensors = from_bert_names(read_tensors(folder / WEIGHTS_FILE))
    model = TextModel(config)
    load_tensors(model, tensors)
    return model.eval(), tokenizer


def load_config(folder: Path) -> TransformerConfig:
    """The config alone, of either layout: enough to describe a model without reading its weights."""
    if (folder / CONFIG_FILE).is_file():
        return TransformerConfig.load(folder / CONFIG_FILE)
    return config_from_bert(_read_json(folder / "config.json"))


def load_tokenizer(folder: Path) -> Tokenizer:
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder.name} has no tokenizer.json; save the tokenizer in the fast format first")
    return Tokenizer.load(folder)


def save_model(model: TextModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes a folder in our layout; the config comes last, so that a half-written folder is never taken for one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS_FILE, dict(model.state_dict()))
    tokenizer.save(folder)
    temporary = folder / f".{CONFIG_FILE}.tmp"
    temporary.write_text(json.dumps(model.config.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(temporary, folder / CONFIG_FILE)


def load_tensors(model: TextModel, tensors: dict[str, Tensor]) -> None:
    """Copies tensors into the model; encoder weights must all be there, a missing classifier stays at its start."""
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if not name.startswith("classifier.")]
    if missing or unexpected:
        raise ValueError(f"weights do not fit the config: missing {missing[:3]}, unexpected {unexpected[:3]}")


def config_from_bert(fields: dict[str, Any]) -> TransformerConfig:
    """A Hugging Face BERT config.json -> our config."""
    if fields.get("model_type") != "bert":
        raise ValueError(f"model_type is {fields.get('model_type')!r}; only 'bert' checkpoints can be read")
    if fields.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(
            f"position_embedding_type {fields['position_embedding_type']!r} is not supported; use 'absolute'"
        )
    if fields.get("hidden_act", "gelu") not in ("gelu", "relu"):
        raise ValueError(f"hidden_act {fields['hidden_act']!r} is not supported; use 'gelu' or 'relu'")
    return TransformerConfig(
        vocab_size=fields["vocab_size"],
        width=fields["hidden_size"],
        num_layers=fields["num_hidden_layers"],
        num_heads=fields["num_attention_heads"],
        feed_forward_width=fields["intermediate_size"],
        max_positions=fields["max_position_embeddings"],
        num_segments=fields.get("type_vocab_size", 2),
        activation=fields.get("hidden_act", "gelu"),
        norm_epsilon=fields.get("layer_norm_eps", 1e-12),
        dropout=fields.get("hidden_dropout_prob", 0.1),
        pad_id=fields.get("pad_token_id", 0),
    )


def from_bert_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face BERT tensors -> ours. An unknown name is an error, so that no weight is dropped unseen."""
    renamed: dict[str, Tensor] = {}
    projections: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("bert.")
        if match := QKV_NAME.fullmatch(name):
            layer, kind, parameter = match.groups()
            projections.setdefault((layer, parameter), {})[kind] = tensor
        elif not IGNORED_NAMES.fullmatch(name):
            renamed[_rename(name)] = tensor
    for (layer, parameter), parts in projections.items():
        joined = torch.cat([parts["query"], parts["key"], parts["value"]])  # [3D, D] or [3D]
        renamed[f"encoder.layers.{layer}.attention.qkv.{parameter}"] = joined
    return renamed


def _rename(name: str) -> str:
    layer = re.search(r"\.layer\.(\d+)\.", name)
    number = layer.group(1) if layer else ""
    for theirs, ours in BERT_NAMES.items():
        prefix = theirs.replace("{n}", number)
        if name.startswith(prefix):
            return ours.replace("{n}", number) + name[len(prefix) :]
    raise ValueError(f"tensor {name!r} has no place in a BERT encoder; is this another architecture?")


def read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing; only safetensors weights are read, convert the checkpoint first")
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is not a mapping


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Temporary name, flush to disk, rename: a reader sees the whole file or none."""
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _read_json(path: Path) -> dict[str, Any]:
    fields = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(fields, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return fields
