"""Trainer state on disk: safetensors and JSON in a folder that appears whole or not at all. Used by `trainer.py`."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.heads import TextModel
from model.weights import read_tensors, write_tensors

STATE_FILE = "state.json"


@dataclass(frozen=True)
class Position:
    """Where a run stands; what is not in here is in the tensors."""

    step: int  # steps done
    tokens_seen: int
    loss_sum: float  # since the last progress event, so that events are the same after a resume
    run_key: str  # hash of data, recipe and base: a checkpoint of another run is never resumed
    seconds: float = 0.0  # of training, those before an interruption included; older checkpoints lack it

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def save_checkpoint(folder: Path, model: TextModel, optimizer: torch.optim.Optimizer, position: Position) -> None:
    """Writes beside, then renames: a killed writer leaves the last whole checkpoint in place."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_tensors(temporary / "model.safetensors", _trained(model))
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{index}.{name}": value for name, value in state.items()}
    write_tensors(temporary / "optimizer.safetensors", tensors)
    with open(temporary / STATE_FILE, "w", encoding="utf-8") as file:
        json.dump(position.to_dict(), file)
        file.flush()
        os.fsync(file.fileno())
    previous = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        os.replace(folder, previous)
    os.replace(temporary, folder)
    shutil.rmtree(previous, ignore_errors=True)


def load_checkpoint(folder: Path, model: TextModel, optimizer: torch.optim.Optimizer, run_key: str) -> Position | None:
    """Restores model, optimiser and random state in place; None when there is nothing to resume for this run."""
    previous = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and previous.exists():  # killed between the two renames
        os.replace(previous, folder)
    if not (folder / STATE_FILE).is_file():
        return None
    position = Position(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
    if position.run_key != run_key:
        return None
    saved = read_tensors(folder / "model.safetensors")
    with torch.no_grad():
        for name, parameter in _trained(model).items():
            parameter.copy_(saved[name])
    tensors = read_tensors(folder / "optimizer.safetensors")
    torch.set_rng_state(tensors.pop("rng"))
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, field = name.partition(".")
        states.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return position


def _trained(model: TextModel) -> dict[str, Tensor]:
    """The parameters that change: all of them, or a LoRA run's adapters and head."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
