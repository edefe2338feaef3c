"""What a finished run leaves: the model's folder, and the manifest that stands for its success."""

import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from training.checkpoints import last_position
from training.trainer import Trainer, UnfinishedRun

MANIFEST_FILE = "manifest.json"


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """A folder that is there whole or not at all, with nothing in it that an earlier, killed writer left."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    for old in (temporary, folder):  # of a run that was killed here
        shutil.rmtree(old, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    write(temporary)
    os.replace(temporary, folder)


def refuse_other_run(output: Path, run_key: str | None = None) -> None:
    """Raises ValueError when `output` holds another run than that of this key (None: any run), interrupted or finished,
    whose checkpoint and model this one would replace."""
    position = last_position(output / "checkpoint")
    where = None if position is None or position.run_key == run_key else f"stands at step {position.step}"
    if where is None and (output / MANIFEST_FILE).is_file():
        finished = read_manifest(output)
        other = run_key is None or finished.get("run_key", run_key) != run_key
        where = f"made {finished['steps']} steps" if other else None
    if where is not None:
        raise ValueError(
            f"{output} holds another run, which had other data, options or another base and {where}; give --output "
            "another folder, or remove this one if that run is not wanted"
        )


def write_manifest(output: Path, trainer: Trainer, description: dict[str, Any], **facts: object) -> None:
    """What was trained, on what, how and how well: the last file of a run, so that it stands for success. Raises
    UnfinishedRun for a run that did not make its steps."""
    if not trainer.finished:
        raise UnfinishedRun(f"the run ended at step {trainer.position.step} of {trainer.total_steps}")
    assert trainer.surroundings is not None
    position = trainer.position
    manifest = description | {
        "run_key": position.run_key,
        "metrics": position.best_scores,
        "steps": position.step,
        "planned_steps": trainer.total_steps,
        "best_step": position.best_step or position.step,
        "stopped_early": position.stopped,
        "seconds": trainer.seconds,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "surroundings": asdict(trainer.surroundings),
        "padding_share": trainer.objective.padding_share,
        "history": position.history,
    }
    write_json(output / MANIFEST_FILE, manifest | facts)


def write_json(path: Path, fields: object) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(fields, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest of a finished run."""
    fields: dict[str, Any] = json.loads((output / MANIFEST_FILE).read_text(encoding="utf-8"))
    return fields
