"""Trainer state on disk: safetensors and JSON in a folder that appears whole or not at all. Used by `trainer.py`."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.heads import TextModel
from model.weights import read_tensors, write_tensors

STATE_FILE = "state.json"


@dataclass
class Position:
    """Where a run stands; what is not in here is in the tensors."""

    run_key: str  # hash of data, recipe and base: a checkpoint of another run is never resumed
    step: int = 0  # steps done
    tokens_seen: int = 0
    loss_sum: float = 0.0  # since the last progress event, so that events are the same after a resume
    gradient_norm: float = 0.0  # of the last step
    seconds: float = 0.0  # of training, those before an interruption included
    best_step: int = 0
    best_value: float | None = None  # of the metric the run is judged by, its sign turned where lower is better
    evaluations_since_best: int = 0
    stopped: bool = False  # early, because the metric no longer rose
    best_scores: dict[str, Any] = field(default_factory=dict)  # of the best step, or of the last without a metric
    history: list[dict[str, float]] = field(default_factory=list)  # what was measured at which step


def save_checkpoint(
    folder: Path, model: TextModel, optimizer: torch.optim.Optimizer, position: Position, gathered: dict[str, Tensor]
) -> None:
    """Writes beside, then renames: a killed writer leaves the last whole checkpoint in place. `gathered` is what the
    objective keeps of its own."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_tensors(temporary / "model.safetensors", _trained(model))
    state = optimizer.state_dict()["state"]
    tensors = {f"{index}.{name}": value for index, fields in state.items() for name, value in fields.items()}
    write_tensors(temporary / "optimizer.safetensors", tensors)
    write_tensors(temporary / "gathered.safetensors", gathered)
    with open(temporary / STATE_FILE, "w", encoding="utf-8") as file:
        json.dump(asdict(position), file)
        file.flush()
        os.fsync(file.fileno())
    previous = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        os.replace(folder, previous)
    os.replace(temporary, folder)
    shutil.rmtree(previous, ignore_errors=True)


def load_checkpoint(
    folder: Path, model: TextModel, optimizer: torch.optim.Optimizer, run_key: str
) -> tuple[Position, dict[str, Tensor]] | None:
    """Restores model and optimiser in place -> where the run stands, and what the objective had gathered; None when
    there is nothing to resume for this run."""
    previous = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and previous.exists():  # killed between the two renames
        os.replace(previous, folder)
    if not (folder / STATE_FILE).is_file():
        return None
    fields = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    if fields["run_key"] != run_key:
        return None
    _load_trained(folder / "model.safetensors", model)
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(folder / "optimizer.safetensors").items():
        index, _, field_name = name.partition(".")
        states.setdefault(int(index), {})[field_name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return Position(**fields), read_tensors(folder / "gathered.safetensors")


def save_best(folder: Path, model: TextModel) -> None:
    """The weights of the best evaluation so far; the checkpoint says at which step that was."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", _trained(model))


def load_best(folder: Path, model: TextModel) -> None:
    _load_trained(folder / "model.safetensors", model)


def _load_trained(path: Path, model: TextModel) -> None:
    saved = read_tensors(path)
    with torch.no_grad():
        for name, parameter in _trained(model).items():
            parameter.copy_(saved[name])


def _trained(model: TextModel) -> dict[str, Tensor]:
    """The parameters that change: all of them, or a LoRA run's adapters and head."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
