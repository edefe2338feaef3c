"""The weights of Hugging Face folders: read a folder, write one; sentence-transformers' extra files too. Used by
`weights.py` and the command line.

Only safetensors is read, in one file or in shards: a pickle can run code when it is opened.
"""

import json
import os
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from model.config import TransformerConfig
from model.files import open_tensors, read_json
from model.heads import TextModel
from model.huggingface.configs import (
    CONFIG_FILE,
    POOLING_MODES,
    WEIGHTS_FILE,
    export_config,
    layout_named,
    layout_of,
    weight_files,
)
from model.huggingface.convert import export_tensors, import_tensors
from model.tokenizer import CLS, END, SEP, TOKENIZER_FILE, UNKNOWN, Tokenizer


def read_tensors(folder: Path, config: TransformerConfig) -> dict[str, Tensor]:
    """The weights of a Hugging Face folder under our names, in float32."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
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


# ---- files


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
