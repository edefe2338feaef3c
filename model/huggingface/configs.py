"""What a Hugging Face folder describes, and a `config.json` for a model of ours; no weights, and no torch, so that a
list of models is told at once. Used by `model/folders.py` and by the reading and writing of weights beside it.

Whatever would change the arithmetic or lose a weight is a ValueError that says so. Dropout is the exception: the
layouts have several rates, we have one, and it is no part of an answer.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

from model.config import Pooling, Task, TransformerConfig
from model.files import names_in, open_tensors, read_json, read_json_value
from model.huggingface.layouts import ACTIVATIONS, CLASS_OF, LAYOUTS, OUTPUT, PROBLEM_TYPES, Layout

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
    files = weight_files(folder)
    where = {name: file for file in files for name in names_in(file)}
    config = import_config(fields, where, _pooling(folder))
    ours = {our_name(layout, config.task, name): name for name in where}
    embedding = f"{config.architecture}.embeddings.token.weight"
    if config.tied_embeddings and {OUTPUT, embedding} <= ours.keys():
        copy, original = (_tensor(where[ours[name]], ours[name]) for name in (OUTPUT, embedding))
        if not copy.equal(original):  # transformers then doesn't tie them either
            config = TransformerConfig.from_dict({**config.to_dict(), "tied_embeddings": False})
    return config


def layout_of(config: TransformerConfig) -> Layout:
    """The layout that a model of this shape is written in; `check_fits` tells whether it really fits."""
    if config.architecture == "encoder_decoder":
        raise ValueError(
            f"architecture {config.architecture!r} has no counterpart among {list(LAYOUTS)}; keep it in our format"
        )
    if config.architecture == "decoder":
        return LAYOUTS["gpt2"]
    if config.position_offset:
        return LAYOUTS["roberta"]
    return LAYOUTS["bert" if config.num_segments else "distilbert"]


def layout_named(name: object) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(f"model_type is {name!r}; only {list(LAYOUTS)} can be read and written")
    return LAYOUTS[str(name)]


# ---- config.json -> TransformerConfig


def import_config(fields: dict[str, Any], tensor_names: Collection[str], pooling: Pooling | None) -> TransformerConfig:
    """A `config.json` and the names beside it -> our config. `pooling` is given for a sentence encoder."""
    layout = layout_named(fields.get("model_type"))
    for name, value in layout.required.items():
        if fields.get(name, value) != value:
            raise ValueError(f"{name} is {fields[name]!r}; this changes the arithmetic, only {value!r} is supported")
    values = {ours: _number(fields, theirs, default) for ours, (theirs, default) in layout.fields.items()}
    task = _task(fields, layout, tensor_names, pooling)
    values |= layout.fixed | _special_values(layout, values)
    values["activation"] = _activation(fields.get(layout.activation, "gelu_new" if layout.name == "gpt2" else "gelu"))
    values["tied_embeddings"] = fields.get("tie_word_embeddings", True)
    values["task"] = task
    if PROBLEM_TYPES.get(task):
        values["pooling"], values["pooler"] = layout.classifier
    else:
        values["pooling"] = pooling or ("last" if layout.name == "gpt2" and task != "embeddings" else "mean")
        ours = {our_name(layout, task, name) for name in tensor_names}
        values["pooler"] = layout.classifier[1] if "pooler.dense.weight" in ours else "none"
    if task in ("classification", "multi_label", "tagging"):
        values["labels"] = _labels(fields)
    _check_language_model(layout, task, values["activation"])
    return TransformerConfig(**values)


def _number(fields: dict[str, Any], name: str, default: Any) -> Any:
    """A field that is a number, or null where that means something."""
    value = fields.get(name, default)
    may_miss = default is None or name.endswith("_token_id")
    if (isinstance(value, int | float) and not isinstance(value, bool)) or (value is None and may_miss):
        return value
    raise ValueError(f"{name} is {value!r}; it must be a number")


def _special_values(layout: Layout, values: dict[str, Any]) -> dict[str, Any]:
    """What no table says: values that depend on others."""
    if layout.name == "gpt2":
        width = values["feed_forward_width"] or 4 * values["width"]
        pad = next((number for number in (values["pad_id"], values["eos_id"]) if number is not None), 0)
        return {"feed_forward_width": width, "pad_id": pad}
    if layout.name == "roberta":  # its positions are counted from the padding id on
        if values["pad_id"] is None:
            raise ValueError("pad_token_id is null; RoBERTa counts positions from it, set it in config.json")
        offset = values["pad_id"] + 1
        return {"position_offset": offset, "max_positions": values["max_positions"] - offset}
    return {"pad_id": values["pad_id"] or 0}


def _activation(name: object) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not supported; use one of {list(ACTIVATIONS)}")
    return ACTIVATIONS[str(name)]


def _check_language_model(layout: Layout, task: Task, activation: str) -> None:
    if layout.name == "roberta" and task == "masked_lm" and activation != "gelu":
        raise ValueError(
            f"activation is {activation!r}; RoBERTa's masked-language-model head has GELU built in, use 'gelu'"
        )


def _task(fields: dict[str, Any], layout: Layout, tensor_names: Collection[str], pooling: Pooling | None) -> Task:
    """From the pooling of a sentence encoder, else the class in `architectures`, else the tensors of a head."""
    architectures = fields.get("architectures")
    if pooling is not None:
        ending = "Model"
    elif architectures:
        ending = architectures[0].removeprefix(layout.stem).replace("ForPreTraining", "ForMaskedLM")
        if ending not in layout.heads:
            known = [layout.stem + ending for ending in layout.heads]
            raise ValueError(f"architecture {architectures[0]!r} is not supported; use one of {known}")
    else:
        modules = {name.rpartition(".")[0] for name in tensor_names} | set(tensor_names)
        found = [ending for ending, head in layout.heads.items() if head.keys() & modules]
        if len(found) > 1:
            raise ValueError(f"the tensors fit {found}; name one class in 'architectures' of config.json")
        ending = found[0] if found else "Model"
    if ending == "ForSequenceClassification":
        return _problem(fields)
    return next(task for task, ending_of_task in CLASS_OF.items() if ending_of_task == ending)


def _problem(fields: dict[str, Any]) -> Task:
    problem, count = fields.get("problem_type"), len(_labels(fields))
    if problem == PROBLEM_TYPES["regression"] and count != 1:
        raise ValueError(f"problem_type is 'regression' with {count} outputs; only one output is supported")
    if problem is None:
        return "regression" if count == 1 else "classification"
    tasks: dict[str, Task] = {name: task for task, name in PROBLEM_TYPES.items()}
    if problem not in tasks:
        raise ValueError(f"problem_type is {problem!r}; use one of {list(tasks)} or null")
    return tasks[problem]


def _labels(fields: dict[str, Any]) -> tuple[str, ...]:
    """In the order of their ids; Hugging Face names unnamed ones LABEL_0, LABEL_1 and takes two when none are told."""
    given = fields.get("id2label") or {}
    if not isinstance(given, dict) or not all(str(number).isdecimal() for number in given):
        raise ValueError(f"id2label is {given!r:.80}; it must name a label for each number from 0 on")
    named = {int(number): str(label) for number, label in given.items()}
    count = len(named) or fields.get("num_labels", 2)
    if named and sorted(named) != list(range(count)):
        raise ValueError(f"id2label has the ids {sorted(named)}; they must be 0 to {count - 1}")
    return tuple(named.get(number, f"LABEL_{number}") for number in range(count))


# ---- TransformerConfig -> config.json


def check_fits(config: TransformerConfig, layout: Layout) -> None:
    """Raises ValueError naming the field that the layout cannot hold."""
    fixed = dict(layout.fixed)
    if layout.name == "roberta":
        fixed["position_offset"] = config.pad_id + 1
    if PROBLEM_TYPES.get(config.task):
        fixed["pooling"], fixed["pooler"] = layout.classifier
    elif config.pooler != "none":
        fixed["pooler"] = layout.classifier[1]
    for name, value in fixed.items():
        if getattr(config, name) != value:
            raise ValueError(
                f"{name} is {getattr(config, name)!r}; the layout {layout.name!r} (task {config.task!r}) can only hold "
                f"{value!r}: train the model that way, choose another layout or keep it in our format"
            )
    if "num_segments" in layout.fields and not config.num_segments:
        raise ValueError(
            f"num_segments is 0; the layout {layout.name!r} needs at least 1: choose the layout 'distilbert' or train "
            "the model that way"
        )
    if CLASS_OF.get(config.task) not in layout.heads:
        raise ValueError(f"task {config.task!r} does not exist in the layout {layout.name!r}; choose another layout")
    _check_language_model(layout, config.task, config.activation)


def export_config(config: TransformerConfig, layout: Layout) -> dict[str, Any]:
    """Our config -> a `config.json`. Raises ValueError naming the field that the layout cannot hold."""
    check_fits(config, layout)
    fields: dict[str, Any] = {
        "model_type": layout.name,
        "architectures": [layout.stem + CLASS_OF[config.task]],
        "dtype": "float32",
        "tie_word_embeddings": config.tied_embeddings,
        layout.activation: next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation),
    }
    fields |= {theirs: getattr(config, ours) for ours, (theirs, _) in layout.fields.items()}
    fields |= dict.fromkeys(layout.dropouts, config.dropout)
    if layout.name == "roberta":
        fields["max_position_embeddings"] += config.position_offset
    if config.num_outputs:
        labels = config.labels or ("LABEL_0",)
        fields["id2label"] = {str(number): label for number, label in enumerate(labels)}
        fields["label2id"] = {label: number for number, label in enumerate(labels)}
    if problem := PROBLEM_TYPES.get(config.task):
        fields["problem_type"] = problem
    return fields


# ---- names of tensors


def our_name(layout: Layout, task: Task, theirs: str) -> str | None:
    """Our name of their tensor: None for one that is left out. Raises ValueError for an unknown name."""
    head = layout.heads[CLASS_OF[task]]
    bare = theirs.removeprefix(layout.prefix)
    if bare.endswith((".gamma", ".beta")):  # LayerNorm in checkpoints that came from TensorFlow
        bare = bare.replace(".gamma", ".weight").replace(".beta", ".bias")
    if layout.ignored.fullmatch(bare):
        return None
    number = re.search(r"\.(\d+)\.", bare)
    general = re.sub(r"\.\d+\.", ".{n}.", bare)
    module, _, parameter = general.rpartition(".")
    names = layout.body | head
    if general in names:
        ours = names[general]
    elif module in names and parameter in ("weight", "bias"):
        ours = f"{names[module]}.{parameter}"
        if module in layout.body and names[module] in head.values():  # RoBERTa's pooler, which its classifier replaces
            return None
    else:
        raise ValueError(
            f"tensor {theirs!r} has no place in {layout.stem}{CLASS_OF[task]}; is this another architecture?"
        )
    return ours.replace("{n}", number.group(1) if number else "")


# ---- files


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


def weight_files(folder: Path) -> list[Path]:
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


def _tensor(file: Path, name: str) -> Any:
    with open_tensors(file) as opened:
        return opened.get_tensor(name)
