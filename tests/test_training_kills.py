"""Runs that are really killed, at chosen points and at random moments, end as those that never were."""

import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_jsonl
from tests.faults import Faults
from tests.lives import Blow, Run, distinct
from tests.small import save_small_encoder
from training.config import Recipe
from training.optim import LARGE_VOCABULARY
from training.results import read_manifest

SUBJECTS, VERBS, OBJECTS = ["red", "green", "blue"], ["cat", "dog", "bird"], ["runs", "sleeps", "在北京"]
RECIPE = Recipe(
    num_epochs=3, batch_size=8, learning_rate=1e-2, max_length=16, checkpoint_steps=3, evaluation_steps=4,
    bfloat16=False, metric="loss", validation_share=0.3,
)  # fmt: skip
RECIPES = {
    "float32": RECIPE,
    "bfloat16": replace(RECIPE, bfloat16=True, micro_batch_size=3),
    "lora": replace(RECIPE, adapter="lora", class_weights="balanced"),
    "early stop": replace(RECIPE, num_epochs=40, learning_rate=5e-2, patience=2, layer_decay=0.8),
    "large vocabulary": replace(RECIPE, micro_batch_size=5, layer_decay=0.8, average_share=0.3),
}


@dataclass(frozen=True)
class Whole:
    """A run that nobody killed."""

    run: Run
    seconds: float


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_encoder(tmp_path_factory.mktemp("base"), SUBJECTS + VERBS + OBJECTS)


@pytest.fixture(scope="module")
def base_of_many_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of its token embedding wait until they are read."""
    folder = tmp_path_factory.mktemp("base_of_many_tokens")
    return save_small_encoder(folder, SUBJECTS + VERBS + OBJECTS, LARGE_VOCABULARY)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """54 texts, each its own, whose first word is the label; every fifth label is wrong."""
    chance = random.Random(0)
    texts = [f"{a} {b} {c}" + " 在" * more for more in range(2) for a in SUBJECTS for b in VERBS for c in OBJECTS]
    labels = [chance.choice(SUBJECTS) if index % 5 == 0 else text.split()[0] for index, text in enumerate(texts)]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    return write_jsonl(path, [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)])


@pytest.fixture(scope="module")
def whole(
    base: Path, base_of_many_tokens: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Whole]:
    """Each kind of run, uninterrupted. A first life warms the server up and is not timed."""
    done = {}
    folder = tmp_path_factory.mktemp("whole")
    assert Run(base, rows, replace(RECIPE, num_epochs=1), folder / "warm").live()
    for kind, recipe in RECIPES.items():
        of_many_tokens, threads = kind == "large vocabulary", 2 if kind in ("bfloat16", "large vocabulary") else 1
        run = Run(base_of_many_tokens if of_many_tokens else base, rows, recipe, folder / kind, threads)
        began = time.monotonic()
        assert run.live()
        done[kind] = Whole(run, time.monotonic() - began)
    return done


def kept(run: Run) -> dict[str, Any]:
    """All that a finished run leaves but for its time: bytes of the model and predictions, figures of the manifest."""
    manifest = read_manifest(run.output)
    del manifest["seconds"]
    folder = run.output / "model"
    files = [path for path in (*folder.iterdir(), run.output / "predictions.csv") if path.is_file()]
    return {path.name: path.read_bytes() for path in files} | {"manifest": manifest}


def assert_same_end(killed: Run, uninterrupted: Run) -> None:
    ours, theirs = kept(killed), kept(uninterrupted)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name] == theirs[name], name
    for kind in ("Progress", "Evaluated"):
        told = distinct(uninterrupted.events(), kind)
        assert told
        assert distinct(killed.events(), kind) == told, "every event is told at least once, and never another"
    leftover = [path.name for path in killed.output.iterdir() if path.name.startswith(".")]
    assert not leftover


CHAINS = {
    "float32": [
        Blow("training.adamw.AdamW.step", 5),
        Blow("os.fsync", 2),
        Blow("model.weights.save_file", about="optimizer", moment="amid"),
        Blow("os.replace", about=".checkpoint.old", moment="after"),
        Blow("model.weights.save_file", about=".model.tmp", moment="amid"),
    ],
    "bfloat16": [
        Blow("training.evaluate.score", 2),
        Blow("training.objectives.Classify.evaluate", 1, moment="after"),
        Blow("os.replace", 4, about=".checkpoint.tmp"),
        Blow("shutil.rmtree", about=".checkpoint.old"),
    ],
    "lora": [
        Blow("os.replace", 2, about="checkpoint-best"),
        Blow("os.replace", about="surroundings"),
        Blow("os.replace", about="adapter.safetensors"),
        Blow("os.replace", about="manifest"),
    ],
    "early stop": [
        Blow("os.replace", about="checkpoint-best", moment="after"),
        Blow("model.weights.save_file", 2, about="checkpoint-best", moment="amid"),
        Blow("training.trainer.load_best"),
        Blow("training.results.write_json", about="manifest"),
    ],
    "large vocabulary": [
        Blow("training.adamw.AdamW.step", 5),
        Blow("training.row_adamw.RowAdamW.catch_up", 2, moment="after"),
        Blow("os.replace", about=".checkpoint.old", moment="after"),
    ],
}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_run_killed_at_the_worst_moments_ends_as_an_uninterrupted_one(
    whole: dict[str, Whole], tmp_path: Path, kind: str
) -> None:
    run = replace(whole[kind].run, output=tmp_path / "run")
    for blow in CHAINS[kind]:
        assert not run.live(blow), f"{blow} never fell"
        assert not (run.output / "manifest.json").exists(), "an unfinished run has no manifest"
    assert run.live()
    assert_same_end(run, whole[kind].run)


def test_some_of_these_runs_have_lanes(whole: dict[str, Whole]) -> None:
    lanes = {kind: read_manifest(whole[kind].run.output)["surroundings"]["lanes"] for kind in whole}
    assert lanes == {"float32": 1, "bfloat16": 2, "lora": 1, "early stop": 1, "large vocabulary": 2}


def test_the_early_stop_of_these_tests_is_early_and_keeps_earlier_weights(whole: dict[str, Whole]) -> None:
    manifest = read_manifest(whole["early stop"].run.output)
    assert manifest["stopped_early"]
    assert manifest["best_step"] == manifest["steps"] - 8
    assert manifest["steps"] < manifest["planned_steps"]


def kill_at_random(whole: dict[str, Whole], kinds: list[str], folder: Path, kills: int) -> None:
    """Runs of these kinds in turn, each begun again after every kill until it makes its way to the end, until so many
    kills have fallen."""
    chance = random.Random(kills)
    for number in range(20 * kills):
        reference = whole[kinds[number % len(kinds)]]
        run = replace(reference.run, output=folder / str(number))
        while not run.live(after_seconds=chance.uniform(0, reference.seconds) if kills else None):
            kills -= 1
        assert_same_end(run, reference.run)
        if not kills:
            return
    pytest.fail(f"{kills} kills came too late")


def test_runs_killed_at_random_moments_end_as_uninterrupted_ones(whole: dict[str, Whole], tmp_path: Path) -> None:
    kill_at_random(whole, ["float32"], tmp_path, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("function", ["os.replace", "os.fsync"])
def test_each_life_may_be_a_rename_or_a_flush_longer_than_the_one_before(
    whole: dict[str, Whole], tmp_path: Path, function: str
) -> None:
    run = replace(whole["early stop"].run, output=tmp_path / "run")
    lives = 1
    while not run.live(Blow(function, lives)):
        lives += 1
    assert lives > 5
    assert_same_end(run, whole["early stop"].run)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_random_kills_all_resume_to_identical_weights(
    whole: dict[str, Whole], tmp_path: Path, faults: Faults
) -> None:
    began = time.monotonic()
    kill_at_random(whole, list(RECIPES), tmp_path, kills=50)
    faults.saw("50 random kill -9 of runs", "each went on to the weights of the whole run", time.monotonic() - began)


def test_a_disk_that_takes_no_checkpoint_does_not_keep_a_run_from_its_end(
    whole: dict[str, Whole], tmp_path: Path, faults: Faults
) -> None:
    """The kernel refuses the optimiser's file, twice as large as the model's: a real refusal, not a made-up one."""
    reference = whole["float32"].run
    run = replace(reference, output=tmp_path / "run")
    model_bytes = (reference.output / "model" / "model.safetensors").stat().st_size
    assert run.live(largest_file=model_bytes * 3 // 2)
    assert_same_end(run, reference)
    assert not (run.output / "checkpoint").exists()
    told = [event["message"] for event in run.events() if event["kind"] == "Noted"]
    assert told
    assert all("no checkpoint could be written" in message for message in told)
    faults.saw(
        "a disk that takes no checkpoint at all", f"the run ended with its weights; {len(told)} notes as {told[0]}"
    )


def test_a_finished_run_called_again_leaves_the_same_manifest(whole: dict[str, Whole]) -> None:
    for kind in ("early stop", "lora"):
        run = whole[kind].run
        manifest = (run.output / "manifest.json").read_bytes()
        before = kept(run)
        assert run.live()
        assert (run.output / "manifest.json").read_bytes() == manifest, "its seconds too"
        assert kept(run) == before
