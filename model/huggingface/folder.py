"""Hugging Face folders on disk: read one, write one; sentence-transformers' extra files too. Used by `weights.py`
and the command line.

Only safetensors is read, in one file or in shards: a pickle can run code when it is opened.
"""

import json
import os
import shutil
from pathlib import Path
from typing import get_args

from safetensors.torch import save_file
from torch import Tensor

from model.config import Pooling, TransformerConfig
from model.files import open_tensors, read_json, read_json_value
from model.heads import TextModel
from model.huggingface.convert import (
    export_config,
    export_tensors,
    import_config,
    import_tensors,
    layout_named,
    layout_of,
    our_name,
)
from model.huggingface.layouts import OUTPUT
from model.tokenizer import CLS, END, SEP, TOKENIZER_FILE, UNKNOWN, Tokenizer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# Our pooling -> its name in sentence-transformers 6, and the flag in the older form that every version reads.
POOLING_MODES: dict[Pooling, tuple[str, str]] = {
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "first": ("cls", "pooling_mode_cls_token"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}


def read_config(folder: Path) -> TransformerConfig:
    """The config of a Hugging Face folder; of the weights only names are read, and a copy of the embedding."""
    fields = read_json(folder / CONFIG_FILE)
    layout = layout_named(fields.get("model_type"))
    files = _weight_files(folder)
    where = {name: file for file in files for name in _names(file)}
    config = import_config(fields, where, _pooling(folder))
    ours = {our_name(layout, config.task, name): name for name in where}
    embedding = f"{config.architecture}.embeddings.token.weight"
    if config.tied_embeddings and {OUTPUT, embedding} <= ours.keys():
        copy, original = (_tensor(where[ours[name]], ours[name]) for name in (OUTPUT, embedding))
        if not copy.equal(original):  # transformers then doesn't tie them either
            config = TransformerConfig.from_dict({**config.to_dict(), "tied_embeddings": False})
    return config


def read_tensors(folder: Path, config: TransformerConfig) -> dict[str, Tensor]:
    """The weights of a Hugging Face folder under our names, in float32."""
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        with open_tensors(file) as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    return import_tensors(tensors, config, layout_named(read_json(folder / CONFIG_FILE).get("model_type")))


def write_folder(model: TextModel, tokenizer: Tokenizer, folder: Path, layout: str | None = None) -> None:
    """Writes a folder that transformers opens, and sentence-transformers when the task is embeddings.

    The layout follows from the config unless it is named. Raises ValueError when it can't hold the model, and when
    the folder has something in it already. The folder appears whole or not at all.
    """
    config = model.config
    chosen = layout_of(config) if layout is None else layout_named(layout)
    fields = export_config(config, chosen)
    tensors = export_tensors(dict(model.state_dict()), config, chosen)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; name a new folder")
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_json(temporary / CONFIG_FILE, fields)
    save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
    _write_tokenizer(tokenizer, config, temporary)
    if config.task == "embeddings":
        _write_sentence_transformers(config, temporary)
    os.replace(temporary, folder)


def _write_tokenizer(tokenizer: Tokenizer, config: TransformerConfig, folder: Path) -> None:
    """`tokenizer.json` as it is, and what transformers wants to be told beside it."""
    tokenizer.save(folder)
    added = read_json(folder / TOKENIZER_FILE)["added_tokens"]
    special = {token["content"]: token["id"] for token in added if token["special"]}

    def first(*candidates: str | int | None) -> str | None:
        """A special token by name or id. Naming an ordinary one would change how transformers splits text."""
        return next((token for token, number in special.items() if token in candidates or number in candidates), None)

    roles = {
        "unk_token": first(UNKNOWN, "<unk>"),
        "pad_token": first(config.pad_id),
        "cls_token": first(CLS, "<s>"),
        "sep_token": first(SEP, END),
        "mask_token": first(tokenizer.mask_token),
        "bos_token": first(config.bos_id),
        "eos_token": first(config.eos_id),
    }
    roles = {role: token for role, token in roles.items() if token is not None}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is
        "model_max_length": config.max_positions,
        "model_input_names": inputs if config.num_segments > 1 else [inputs[0], inputs[2]],
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", settings | roles)
    write_json(folder / "special_tokens_map.json", roles)


# ---- sentence-transformers


def _write_sentence_transformers(config: TransformerConfig, folder: Path) -> None:
    """Its three steps: the Transformer, our pooling, unit length."""
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(steps)
    ]
    write_json(folder / "modules.json", modules)
    settings = {"max_seq_length": config.max_positions, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", settings)
    for path, _ in steps[1:]:
        (folder / path).mkdir()
    flags = {flag: pooling == config.pooling for pooling, (_, flag) in POOLING_MODES.items()}
    write_json(folder / "1_Pooling" / CONFIG_FILE, {"word_embedding_dimension": config.width, **flags})


def _pooling(folder: Path) -> Pooling | None:
    """How a sentence-transformers folder pools; None for a folder that is none."""
    if not (folder / "modules.json").is_file():
        return None
    modules = read_json_value(folder / "modules.json")
    try:
        kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    except (TypeError, KeyError, AttributeError):
        raise ValueError("modules.json is no list of steps with 'type' and 'path'; fetch the folder again") from None
    if "Pooling" not in kinds:
        return None
    if unknown := sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise ValueError(f"modules.json has the steps {unknown}; only Transformer, Pooling and Normalize are supported")
    fields = read_json(folder / Path(kinds["Pooling"]).name / CONFIG_FILE)
    mode = fields.get("pooling_mode") or [
        name.removeprefix("pooling_mode_") for name, on in fields.items() if name.startswith("pooling_mode_") and on
    ]
    modes = [mode] if isinstance(mode, str) else list(mode)
    for pooling, (name, flag) in POOLING_MODES.items():
        if modes in ([name], [flag.removeprefix("pooling_mode_")]):
            return pooling
    raise ValueError(f"the pooling is {modes}; use one of {list(get_args(Pooling))}")


# ---- files


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or the shards that the index names."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        shards = read_json(folder / INDEX_FILE).get("weight_map")
        if not isinstance(shards, dict):
            raise ValueError(f"{INDEX_FILE} has no 'weight_map'; fetch the folder again")
        names = sorted(set(map(str, shards.values())))
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise ValueError(f"{INDEX_FILE} names the shard {name!r}, which is not there; fetch the folder again")
        return [folder / name for name in names]
    if (folder / "pytorch_model.bin").is_file():
        raise ValueError(
            f"{folder.name} has only pytorch_model.bin, a pickle, which can run code when it is opened; load it with "
            f"transformers where you trust it and save_pretrained it as {WEIGHTS_FILE}"
        )
    raise ValueError(f"{WEIGHTS_FILE} is missing in {folder.name}; only safetensors weights are read")


def _names(file: Path) -> list[str]:
    with open_tensors(file) as opened:
        return list(opened.keys())


def _tensor(file: Path, name: str) -> Tensor:
    with open_tensors(file) as opened:
        tensor: Tensor = opened.get_tensor(name)
        return tensor


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
