"""Tensors from a Hugging Face layout to ours and back; no files. Used by `folder.py`."""

import re

import torch
from torch import Tensor

from model.config import TransformerConfig
from model.huggingface.configs import our_name
from model.huggingface.layouts import BIAS_COPY, CLASS_OF, OUTPUT, Layout, Names

PARTS = ("query", "key", "value")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


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
