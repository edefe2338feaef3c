"""Checkpoints that are damaged, or that a full disk refused: said, never taken up, and the run ends as it would have."""

import errno
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from model.weights import load_model, save_model
from tests.conftest import write_jsonl
from tests.faults import Faults
from tests.short_runs import assert_equal, notes, trainer_of, until, weights_of, with_dropout
from tests.small import save_small_encoder
from training.checkpoints import find_checkpoint, remove_checkpoints
from training.config import Recipe
from training.events import Evaluated, Started, TrainingEvent
from training.finetune import finetune, load_data
from training.trainer import Trainer

FIELDS: dict[str, Any] = {"metric": "loss", "checkpoint_steps": 2, "evaluation_steps": 2, "learning_rate": 5e-2}


def run_of(folder: Path) -> Trainer:
    """12 steps with a checkpoint and an evaluation after every second; the best is not the last."""
    return trainer_of(with_dropout(), folder, **FIELDS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    trainer = run_of(tmp_path_factory.mktemp("whole"))
    list(trainer.run())
    assert trainer.position.best_step < 8 < trainer.position.step, "else the best weights would not be put aside"
    return trainer


def cut_at(folder: Path, step: int) -> Path:
    """A run that was left at the evaluation of this step, before its checkpoint -> the checkpoint's folder."""
    until(run_of(folder).run(), step)
    return folder / "checkpoint"


def ended(folder: Path, whole: Trainer) -> list[TrainingEvent]:
    """The run called again; it must end like the whole one."""
    trainer = run_of(folder)
    events = list(trainer.run())
    assert_equal(weights_of(trainer.model), weights_of(whole.model))
    assert trainer.position.history == whole.position.history
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    return events


def started_at(events: Sequence[TrainingEvent]) -> int:
    return next(event.step for event in events if isinstance(event, Started))


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.Random(path.name).randrange(len(content) // 2, len(content))] ^= 1
    path.write_bytes(content)


def change_a_digit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert '"step": 8,' in text
    path.write_text(text.replace('"step": 8,', '"step": 9,', 1), encoding="utf-8")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_a_list(path: Path) -> None:
    path.write_text("[1, 2]", encoding="utf-8")


def write_bytes(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


TENSOR_FILES = ["model.safetensors", "optimizer.safetensors", "gathered.safetensors", "best"]
DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    *[(name, damage) for name in TENSOR_FILES for damage in (cut_short, flip_a_bit, os.unlink)],
    *[("state.json", damage) for damage in (cut_short, change_a_digit, empty, write_a_list, write_bytes, os.unlink)],
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_run_starts_anew(
    tmp_path: Path, whole: Trainer, faults: Faults, name: str, damage: Callable[[Path], object]
) -> None:
    checkpoint = cut_at(tmp_path, 10)
    (best,) = (tmp_path / "checkpoint-best").glob("*.safetensors")
    damage(best if name == "best" else checkpoint / name)
    events = ended(tmp_path, whole)
    assert started_at(events) == 0
    (note,) = [note for note in notes(events) if "damaged" in note]
    assert (best.name if name == "best" else name) in note
    assert "the run starts from its beginning" in note
    assert str(tmp_path) not in note, "users of a service read it"
    faults.saw(f"{name} of a checkpoint after `{damage.__name__}`", note)


def test_the_checkpoint_before_is_taken_when_a_kill_has_left_it(tmp_path: Path, whole: Trainer) -> None:
    cut_at(tmp_path, 8)
    shutil.copytree(tmp_path, tmp_path.with_name("kept"))
    checkpoint = cut_at(tmp_path, 10)
    shutil.copytree(tmp_path.with_name("kept") / "checkpoint", tmp_path / ".checkpoint.old")
    shutil.copytree(tmp_path.with_name("kept") / "checkpoint-best", tmp_path / "checkpoint-best", dirs_exist_ok=True)
    cut_short(checkpoint / "model.safetensors")
    events = ended(tmp_path, whole)
    assert started_at(events) == 6
    assert "the run continues from step 6" in notes(events)[0]


def test_the_best_weights_of_a_life_that_was_lost_are_not_taken_for_those_of_the_checkpoint(
    tmp_path: Path, whole: Trainer
) -> None:
    """The life that is lost had found better weights; the next one, of the same run, knows its own."""
    cut_at(tmp_path, 4)
    kept = {path.name for path in (tmp_path / "checkpoint-best").iterdir()}
    assert len(kept) == 2, "those of the checkpoint, and those found since"
    ended(tmp_path, whole)
    assert [path.name for path in (tmp_path / "checkpoint-best").iterdir()] == [
        f"{whole.position.best_step}.safetensors"
    ]


def test_everything_a_run_kept_can_be_removed(tmp_path: Path) -> None:
    checkpoint = cut_at(tmp_path, 6)
    assert find_checkpoint(checkpoint, "run")[0] is not None
    remove_checkpoints(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["surroundings.json"]
    assert find_checkpoint(checkpoint, "run") == (None, [])


# ---- a full disk


class FullDisk:
    """From some call of fsync on, and until it is emptied, no file comes to disk."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.calls = 0
        self.emptied = False
        self._fsync = os.fsync

    def fsync(self, file: int) -> None:
        self.calls += 1
        if self.calls >= self.first and not self.emptied:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fsync(file)


@pytest.mark.parametrize("first", [6, 7, 8, 9])  # each file of the second checkpoint, after surroundings and the first
def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults, first: int
) -> None:
    fields = {"checkpoint_steps": 3, "evaluation_steps": 6}
    plain = trainer_of(with_dropout(), tmp_path / "plain", **fields)
    list(plain.run())
    disk = FullDisk(first)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    trainer = trainer_of(with_dropout(), tmp_path / "full", **fields)
    events = []
    for event in trainer.run():
        events.append(event)
        if isinstance(event, Evaluated) and event.step == 12:
            position, damages = find_checkpoint(tmp_path / "full" / "checkpoint", "run")
            assert (position and position.step, damages) == (3, []), "the last whole one is still there"
            disk.emptied = True
    assert_equal(weights_of(trainer.model), weights_of(plain.model))
    told = notes(events)
    assert [note.split(" (")[0] for note in told] == [
        f"no checkpoint could be written at step {step}" for step in (6, 9)
    ]
    assert "No space left on device" in told[0]
    faults.saw(f"a disk that is full from file {first} of a run on", f"weights as without it; told: {told[0]}")
    position, _ = find_checkpoint(tmp_path / "full" / "checkpoint", "run")
    assert position is not None
    assert position.step == 12


def test_a_run_killed_on_a_full_disk_continues_from_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults, whole: Trainer
) -> None:
    disk = FullDisk(7)  # surroundings; best and checkpoint of step 2; best of step 4
    monkeypatch.setattr(os, "fsync", disk.fsync)
    trainer = run_of(tmp_path)
    with pytest.raises(OSError, match=r"best weights so far, of step \d+.*No space left.*free some disk space") as met:
        list(trainer.run())
    disk.emptied = True
    events = ended(tmp_path, whole)
    assert started_at(events) == 2
    faults.saw(
        "a disk too full for the best weights, then emptied", f"{met.value}; went on at step {started_at(events)}"
    )


# ---- which run a checkpoint is of


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_small_encoder(tmp_path / "base", ["red", "blue", "cat"])


def starts(base: Path, rows: Path, output: Path, **fields: Any) -> int:
    """Where a run called in this folder begins."""
    recipe = Recipe(num_epochs=1, batch_size=8, max_length=16, bfloat16=False, **fields)
    output.mkdir(exist_ok=True)
    return started_at(list(finetune(base, load_data(rows, None, recipe), recipe, output, torch.device("cpu"))))


def test_other_data_another_recipe_or_other_weights_of_a_base_are_another_run(base: Path, tmp_path: Path) -> None:
    texts = [{"text": f"{word} cat {other}", "label": word} for word in ("red", "blue") for other in "abcdefgh"]
    rows = write_jsonl(tmp_path / "rows.jsonl", texts)
    other_rows = write_jsonl(tmp_path / "other.jsonl", texts[::-1])
    output = tmp_path / "run"
    assert starts(base, rows, output) == 0
    assert starts(base, rows, output) > 0
    assert starts(base, other_rows, output) == 0
    assert starts(base, rows, output) == 0, "there is one checkpoint, of the last run"
    assert starts(base, rows, output, seed=1) == 0
    assert starts(base, rows, output, seed=1, adapter="lora") == 0
    assert starts(base, rows, output, seed=1, adapter="lora") > 0
    model, tokenizer = load_model(base)
    with torch.no_grad():
        next(model.parameters()).add_(0.01)
    save_model(model, tokenizer, base)
    assert starts(base, rows, output, seed=1, adapter="lora") == 0, "the same name, but other weights"
