"""Configs and tensors from a Hugging Face layout to ours and back; no files. Used by `folder.py`.

Whatever would change the arithmetic or lose a weight is a ValueError that says so. Dropout is the exception: the
layouts have several rates, we have one, and it is no part of an answer.
"""

import re
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from model.config import Pooling, Task, TransformerConfig
from model.huggingface.layouts import ACTIVATIONS, BIAS_COPY, CLASS_OF, LAYOUTS, OUTPUT, PROBLEM_TYPES, Layout, Names

PARTS = ("query", "key", "value")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


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


# ---- tensors


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


def import_tensors(tensors: dict[str, Tensor], config: TransformerConfig, layout: Layout) -> dict[str, Tensor]:
    """Their tensors -> ours, in float32. An unknown name is an error, so that no weight is dropped unseen."""
    found: dict[str, Tensor] = {}
    for theirs, tensor in tensors.items():
        ours = our_name(layout, config.task, theirs)
        if ours is None:
            continue
        if ours in found:
            raise ValueError(f"tensor {theirs!r} is there twice, under two names; which of them is meant?")
        if tensor.dtype not in FLOATS:
            raise ValueError(f"tensor {theirs!r} is {tensor.dtype}; quantised weights can't be read, use float32")
        found[ours] = (tensor.T if layout.transposed.fullmatch(theirs) else tensor).float()
    for first in [name for name in found if ":query." in name]:
        names = [first.replace(":query.", f":{part}.") for part in PARTS]
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"the checkpoint lacks {missing[0]!r}")
        found[first.replace(":query.", ".")] = torch.cat([found.pop(name) for name in names])  # [3D, D] or [3D]
    if BIAS_COPY in found:  # where both are there, transformers adds this one
        found["language_model.bias"] = found.pop(BIAS_COPY)
    if config.tied_embeddings:
        found.pop(OUTPUT, None)
    return found


def export_tensors(tensors: dict[str, Tensor], config: TransformerConfig, layout: Layout) -> dict[str, Tensor]:
    """Our tensors -> theirs, each in memory of its own."""
    head = layout.heads[CLASS_OF[config.task]]
    body = {ours: theirs for theirs, ours in layout.body.items() if ours not in head.values()}
    prefix = "" if CLASS_OF[config.task] == "Model" else layout.prefix
    names: Names = {ours: prefix + theirs for ours, theirs in body.items()} | {head[theirs]: theirs for theirs in head}
    parts = dict(tensors)
    for name in [name for name in parts if ".qkv." in name]:
        if any(":query" in ours for ours in names):
            for part, rows in zip(PARTS, parts.pop(name).chunk(3), strict=True):
                parts[name.replace(".qkv.", f".qkv:{part}.")] = rows
    if not config.tied_embeddings and BIAS_COPY in names:
        parts[BIAS_COPY] = parts["language_model.bias"]
    exported: dict[str, Tensor] = {}
    for ours, tensor in parts.items():
        number = re.search(r"\.(\d+)\.", ours)
        general = re.sub(r"\.\d+\.", ".{n}.", ours)
        module, _, parameter = general.rpartition(".")
        if general not in names and module not in names:
            raise ValueError(f"weight {ours!r} has no counterpart in {layout.stem}{CLASS_OF[config.task]}")
        theirs = names[general] if general in names else f"{names[module]}.{parameter}"
        theirs = theirs.replace("{n}", number.group(1) if number else "")
        kept = tensor.T if layout.transposed.fullmatch(theirs) else tensor
        exported[theirs] = kept.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
    return exported
