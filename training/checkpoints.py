"""Trainer state on disk: safetensors and JSON in a folder that appears whole or not at all, with the hashes of its
files, so that a damaged one is never taken up. Used by `trainer.py`."""

import hashlib
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
from training.parallel import World
from training.row_adamw import ROW_STEPS, RowAdamW
from training.sharding import gathered, part_like

STATE_FILE = "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW's state, what has the shape of its parameter
MODEL_FILE, OPTIMIZER_FILE, GATHERED_FILE = "model.safetensors", "optimizer.safetensors", "gathered.safetensors"
AVERAGE_FILE = "average.safetensors"  # of a run that averages its weights


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
    best_sha256: str = ""  # of the file that holds the best weights; empty when they are those of the last step
    evaluations_since_best: int = 0
    stopped: bool = False  # early, because the metric no longer rose
    best_scores: dict[str, Any] = field(default_factory=dict)  # of the best step, or of the last without a metric
    history: list[dict[str, float]] = field(default_factory=list)  # what was measured at which step


def checkpoint_tensors(
    model: TextModel,
    optimizer: torch.optim.Optimizer,
    objective: dict[str, Tensor],
    average: dict[str, Tensor],
    world: World,
) -> dict[str, dict[str, Tensor]]:
    """What a checkpoint holds, by file, in the first process alone. Called by all, since sharded weights are gathered.
    `objective` is what the objective keeps of its own, `average` the mean of the weights, if there is one."""
    state = optimizer.state_dict()["state"]
    moments = {f"{index}.{name}": value for index, fields in state.items() for name, value in fields.items()}
    files = {MODEL_FILE: trained(model), OPTIMIZER_FILE: moments, GATHERED_FILE: objective}
    files |= {AVERAGE_FILE: average} if average else {}
    return {name: gathered(tensors, world) for name, tensors in files.items()}


def save_checkpoint(folder: Path, files: dict[str, dict[str, Tensor]], position: Position) -> None:
    """Writes beside, then renames: a killed writer, or one whose disk is full (OSError), leaves the last whole
    checkpoint in place."""
    temporary, previous = _temporary(folder), _previous(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(temporary, files, position)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        os.replace(folder, previous)
    os.replace(temporary, folder)
    shutil.rmtree(previous, ignore_errors=True)
    best_folder = _best_folder(folder)
    for path in best_folder.iterdir() if best_folder.exists() else ():  # a killed writer's remains among them
        if path.name != _best_name(position.best_step):
            path.unlink()


def find_checkpoint(folder: Path, run_key: str) -> tuple[Position | None, list[str]]:
    """Where the last whole checkpoint of this run stands, which is then in `folder`, or None; and in words for the user
    what is wrong with checkpoints that are not whole."""
    shutil.rmtree(_temporary(folder), ignore_errors=True)
    previous, faults = _previous(folder), []
    for candidate in (folder, previous):  # the latter when a writer was killed between its two renames
        if candidate.exists():
            try:
                position = _verified(candidate, _best_folder(folder))
            except (OSError, ValueError, TypeError) as error:  # not a word of paths: users of a service read it
                what = error.strerror if isinstance(error, OSError) else error
                faults.append(f"a damaged checkpoint is not used: {what}")
                continue
            if position.run_key == run_key:
                shutil.rmtree(previous if candidate == folder else folder, ignore_errors=True)
                if candidate == previous:
                    os.replace(previous, folder)
                return position, faults
    return None, faults


def last_position(folder: Path) -> Position | None:
    """Where the last whole checkpoint in `folder` stands, whichever run's it is."""
    for candidate in (folder, _previous(folder)):  # as in `find_checkpoint`
        try:
            return _verified(candidate, _best_folder(folder))
        except (OSError, ValueError, TypeError):
            continue
    return None


def load_checkpoint(folder: Path, model: TextModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Restores model and optimiser in place from what `find_checkpoint` found whole -> what the objective had
    gathered."""
    _load_trained(folder / MODEL_FILE, model)
    parameters: list[Any] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(folder / OPTIMIZER_FILE).items():
        index, _, field_name = name.partition(".")
        copied = tensor.clone()  # else the optimiser keeps the file mapped
        if field_name == ROW_STEPS and not isinstance(optimizer, RowAdamW):
            continue  # it changes all rows at each step
        moment = part_like(copied, parameters[int(index)]) if field_name in MOMENTS else copied
        states.setdefault(int(index), {})[field_name] = moment
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return {name: tensor.clone() for name, tensor in read_tensors(folder / GATHERED_FILE).items()}


def load_average(folder: Path) -> dict[str, Tensor]:
    """The mean of the weights that `checkpoint_tensors` was given."""
    return read_tensors(folder / AVERAGE_FILE)


def save_best(folder: Path, step: int, tensors: dict[str, Tensor]) -> str:
    """Puts the weights of the best evaluation so far beside the checkpoints in `folder` -> the file's hash. Those of
    the best step before stay until the next checkpoint, since a killed run needs them again."""
    path = _best_folder(folder) / _best_name(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors)
    return _sha256(path)


def load_best(folder: Path, step: int, model: TextModel) -> None:
    _load_trained(_best_folder(folder) / _best_name(step), model)


def remove_checkpoints(folder: Path) -> None:
    """Everything that a run keeps to be continued."""
    for path in (folder, _temporary(folder), _previous(folder), _best_folder(folder)):
        shutil.rmtree(path, ignore_errors=True)


def settled_file(folder: Path) -> Path:
    """Where it stands how the run of these checkpoints was settled, see `surroundings.py`."""
    return folder.with_name("surroundings.json")


def needed_to_continue(folder: Path) -> tuple[Path, ...]:
    """What another machine needs to go on from the last checkpoint in `folder`."""
    return folder, _best_folder(folder), settled_file(folder)


def _temporary(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.tmp")


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _best_folder(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-best")


def _best_name(step: int) -> str:
    return f"{step}.safetensors"


def _write(folder: Path, files: dict[str, dict[str, Tensor]], position: Position) -> None:
    hashes = {}
    for name, tensors in files.items():
        write_tensors(folder / name, tensors)
        hashes[name] = _sha256(folder / name)
    fields = {"position": asdict(position), "files": hashes}
    with open(folder / STATE_FILE, "w", encoding="utf-8") as file:
        json.dump(fields | {"sha256": _seal(fields)}, file)
        file.flush()
        os.fsync(file.fileno())


def _verified(folder: Path, best_folder: Path) -> Position:
    """Where this checkpoint stands. Raises ValueError, OSError or (another version's fields) TypeError unless it is
    whole."""
    if not (folder / STATE_FILE).is_file():
        raise ValueError(f"{STATE_FILE} is missing")
    try:
        fields = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except ValueError:  # no JSON, or no UTF-8
        fields = None
    if not isinstance(fields, dict) or fields.pop("sha256", None) != _seal(fields):
        raise ValueError(f"{STATE_FILE} is not what was written")
    position = Position(**fields["position"])
    expected = {folder / name: sha256 for name, sha256 in fields["files"].items()}
    if position.best_sha256:
        expected[best_folder / _best_name(position.best_step)] = position.best_sha256
    for path, sha256 in expected.items():
        if not path.is_file() or _sha256(path) != sha256:
            raise ValueError(f"{path.name} is not what was written")
    return position


def _seal(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_trained(path: Path, model: TextModel) -> None:
    saved = read_tensors(path)
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(part_like(saved[name], parameter))


def trained(model: TextModel) -> dict[str, Tensor]:
    """The parameters that change: all of them, or a LoRA run's adapters and head."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
