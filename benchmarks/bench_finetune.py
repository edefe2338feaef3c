"""Fine-tuning against the Trainer of transformers, side by side in one run, on the movie sentences and on 4,000 Chinese
reviews. Prints the tables and writes `results/finetune.md`: `make bench-finetune`, within an hour; without bfloat16
`results/finetune_float32.md`, in two.

Every run is a process of its own. Three recipes: transformers', with batches grouped by length and in bfloat16, or in
float32 where the CPU has no bfloat16; ours with the very same hyperparameters; ours as a user gets it who sets nothing.
Rates are told against transformers' default too, in float32 and random order. On a machine with many
cores, `--lanes` makes several runs at a time, each lane on two cores of its own; the runs that are compared take turns
in one lane, or run at the same time.
"""

import argparse
import functools
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.peers_environment import peer_python
from benchmarks.report import ROOT, environment, table, write
from model.capability import has_bfloat16
from model.huggingface.folder import write_folder
from model.weights import load_model
from training.catalogue import fetch_minilm, write_splits
from training.evaluation.calibration import calibration
from training.results import MANIFEST_FILE

SEEDS = (0, 1, 2)
RATE_STEPS, WARM_STEPS = 100, 10  # a rate is taken from steps 11 to 100
SAME = {"learning_rate": 5e-5, "batch_size": 32, "num_epochs": 2, "max_length": 128}
SAME_CHINESE = SAME | {"learning_rate": 5e-4, "num_epochs": 3}  # a small encoder wants more, on both sides
LIKE_THEIRS = {
    "warmup_share": 0.1, "weight_decay": 0.0, "layer_decay": 1.0, "class_weights": "none", "evaluation_steps": None,
    "dropout": None, "average_share": 0.0,
}  # fmt: skip
EVALUATIONS = {"evaluation_steps": 20, "first_evaluation": 200}  # of ours, to tell the time to an accuracy
CHINESE_ROWS = 4_000
CORES = 2  # of a lane
FASTEST = "bf16" if has_bfloat16(torch.device("cpu")) else "float32"  # of their number formats, on this CPU
PEER_PACKAGES = ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "safetensors")


@dataclass(frozen=True)
class Case:
    """One data set with its base in both layouts, and the hyperparameters both sides share."""

    name: str
    ours: Path
    theirs: Path
    files: Mapping[str, Path]
    same: Mapping[str, Any]

    @property
    def rows(self) -> int:
        return len(self.files["train"].read_text(encoding="utf-8").splitlines())


Cores = tuple[int, ...]  # of a lane; none: all that there are
Task = Callable[[Cores], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="state folder: cache, pre-trained models, peers")
    parser.add_argument(
        "--lanes", type=int, default=1, help="runs at a time, each on two cores of its own (default: 1)"
    )
    parser.add_argument("--only", choices=("movies", "chinese"), help="one of the two data sets, in a file of its own")
    parser.add_argument(
        "--peer-python", type=Path, help="an interpreter that has the peer (default: made, in the home)"
    )
    given = parser.parse_args()
    lanes = lanes_of(given.lanes, sorted(os.sched_getaffinity(0)))
    python = given.peer_python or peer_python(given.home, "transformers", PEER_PACKAGES)
    makers = {"movies": movies, "chinese": chinese}
    names = [given.only] if given.only else list(makers)
    with tempfile.TemporaryDirectory() as folder:
        comparisons = [Comparison(makers[name](given.home, Path(folder)), python) for name in names]
        in_lanes(lanes, [task for one in comparisons for task in one.tasks])
        parts = [part for one in comparisons for part in one.section()]  # while the files are there
    about = environment() + ("" if len(lanes) == 1 else f"; {len(lanes)} runs at a time, each on {CORES} cores")
    of_format = [] if FASTEST == "bf16" else [FASTEST]  # a result in bfloat16 is not replaced by one without
    result = "_".join(["finetune", *([given.only] if given.only else []), *of_format])
    write(result, "\n\n".join(["# Fine-tuning against the Trainer of transformers", about, *parts]))


def lanes_of(count: int, cores: Sequence[int]) -> list[Cores]:
    """Raises SystemExit when there are not enough cores."""
    if count == 1:
        return [()]
    if count * CORES > len(cores):
        raise SystemExit(f"{count} lanes need {count * CORES} cores, and there are {len(cores)}; take fewer")
    return [tuple(cores[lane * CORES : (lane + 1) * CORES]) for lane in range(count)]


def in_lanes(lanes: Sequence[Cores], tasks: Sequence[Task]) -> None:
    """Each task in the lane that is free first. The first task that fails ends the benchmark."""
    free: queue.SimpleQueue[Cores] = queue.SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def work(task: Task) -> None:
        lane = free.get()
        try:
            task(lane)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool, tqdm(total=len(tasks), unit="task") as bar:
        for _ in pool.map(work, tasks):
            bar.update()


def movies(home: Path, folder: Path) -> Case:
    files = {path.name.split(".")[-2]: path for path in write_splits("movie-sentiment", home / "cache", folder)}
    base = fetch_minilm(home / "cache")
    return Case("Movie sentences, MiniLM-L6", base, base, files, SAME)


def chinese(home: Path, folder: Path) -> Case:
    """A fixed subset of the reviews, and the encoder this project pre-trains; both sides read the same weights."""
    output = home / "pretraining" / "chinese-encoder"
    if not (output / MANIFEST_FILE).is_file():
        raise SystemExit("the Chinese encoder is missing; run `vitrine pretrain chinese-encoder` first (half an hour)")
    files = {path.name.split(".")[-2]: path for path in write_splits("chinese-reviews", home / "cache", folder)}
    rows = files["train"].read_text(encoding="utf-8").splitlines(keepends=True)
    few = folder / "chinese-reviews.few.jsonl"
    few.write_text("".join(random.Random(0).sample(rows, CHINESE_ROWS)), encoding="utf-8")
    theirs = folder / "chinese-encoder"
    write_folder(*load_model(output / "model"), theirs)
    name = f"Chinese reviews, {CHINESE_ROWS:,} rows, our Chinese encoder"
    return Case(name, output / "model", theirs, files | {"train": few}, SAME_CHINESE)


class Comparison:
    """All runs of one case. A task's runs take turns: the two of a same recipe, or those that give rates."""

    def __init__(self, case: Case, python: Path) -> None:
        self._case, self._python = case, python
        self._runs: dict[str, dict[int, dict[str, Any]]] = {"theirs": {}, "same": {}, "ours": {}}  # by seed
        self._rates: dict[str, list[float]] = {"float32": [], "ours": []}
        self._full: dict[str, Any] = {}
        of_seeds = [functools.partial(task, seed) for seed in SEEDS for task in (self._same, self._user)]
        self.tasks: list[Task] = [self._measure_rates, *of_seeds]

    def section(self) -> list[str]:
        """-> its part of the result, once all tasks are done."""
        runs = {name: [own[seed] for seed in SEEDS] for name, own in self._runs.items()}
        return section(self._case, self._rates, runs, self._full)

    def _measure_rates(self, cores: Cores) -> None:
        batch_size = self._case.same["batch_size"]
        for _ in range(2):
            self._full = self._their(cores, 0, "--max-steps", str(RATE_STEPS))
            self._rates["float32"].append(step_rate(list(enumerate(self._full["steps"], start=1)), batch_size))
            quick = self._our(cores, {**self._case.same, **LIKE_THEIRS}, "--stop", str(RATE_STEPS))
            self._rates["ours"].append(step_rate(quick["progress"], batch_size))

    def _same(self, seed: int, cores: Cores) -> None:
        self._runs["theirs"][seed] = self._their(cores, seed, *(["--bf16"] if FASTEST == "bf16" else ["--by-length"]))
        self._runs["same"][seed] = self._our(cores, {**self._case.same, **LIKE_THEIRS, "seed": seed})

    def _user(self, seed: int, cores: Cores) -> None:
        self._runs["ours"][seed] = self._our(cores, {"seed": seed, **EVALUATIONS})

    def _their(self, cores: Cores, seed: int, *options: str) -> dict[str, Any]:
        program = [self._python, ROOT / "benchmarks" / "peers" / "transformers_trainer.py"]
        return run(program, their_options(self._case, seed, *options), cores)

    def _our(self, cores: Cores, recipe: Mapping[str, Any], *options: str) -> dict[str, Any]:
        program = [sys.executable, "-m", "benchmarks.finetune_once"]
        return run(program, our_options(self._case, recipe, *options), cores)


def their_options(case: Case, seed: int, *options: str) -> list[str | Path]:
    same = case.same
    given = ["--learning-rate", str(same["learning_rate"]), "--batch-size", str(same["batch_size"])]
    given += ["--epochs", str(same["num_epochs"]), "--max-length", str(same["max_length"]), "--seed", str(seed)]
    output = case.files["train"].parent / f"transformers-{case.theirs.name}-{seed}"
    return ["--base", case.theirs, *file_options(case), "--output", output, *given, *options]


def our_options(case: Case, recipe: Mapping[str, Any], *options: str) -> list[str | Path]:
    return ["--base", case.ours, *file_options(case), "--recipe", json.dumps(dict(recipe)), *options]


def file_options(case: Case) -> list[str | Path]:
    return [item for name in ("train", "validation", "test") for item in (f"--{name}", case.files[name])]


def run(program: Sequence[str | Path], options: Sequence[str | Path], cores: Cores) -> dict[str, Any]:
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
    threads = {"OMP_NUM_THREADS": str(len(cores))} if cores else {}
    command = [*pinned, *program, *options]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, program))} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    told = "".join(f"; {seconds:.1f} s: {score:.4f}" for _, seconds, score in result.get("evaluations", [])[-1:])
    tqdm.write(f"{Path(str(program[-1])).name} {' '.join(map(str, options[-4:]))}{told}", file=sys.stderr)
    return result


def step_rate(steps: Sequence[Sequence[float]], batch_size: int) -> float:
    """Rows a second between two steps, the first ones left out."""
    (first, began), (last, ended) = next(item for item in steps if item[0] >= WARM_STEPS), steps[-1]
    return (last - first) * batch_size / (ended - began)


def section(
    case: Case, rates: Mapping[str, Sequence[float]], runs: Mapping[str, list[dict[str, Any]]], full: dict[str, Any]
) -> list[str]:
    final = {name: mean(one["evaluations"][-1][2] for one in own) for name, own in runs.items()}
    target = final["theirs"]
    names = {
        "theirs": f"transformers, {FASTEST}, by length",
        "same": "ours, same recipe",
        "ours": "ours, as a user gets it",
    }
    rows = [
        [
            names[name],
            spread([one["seconds"] for one in own], 1),
            spread([held_out(one) for one in own], 4),
            spread([mean(one["right"]) for one in own], 4),
            spread([sureness_gap(one) for one in own], 3),
            f"{max(one['peak_bytes'] for one in own) / 2**30:.2f}",
        ]
        for name, own in runs.items()
    ]
    header = ["run", "seconds", "validation accuracy", "test accuracy", "calibration error", "peak GiB"]
    their_seconds = mean(one["seconds"] for one in runs["theirs"])
    ratios = [their["seconds"] / our["seconds"] for their, our in zip(runs["theirs"], runs["same"], strict=True)]
    full_ratios = sorted(our / their for our, their in zip(rates["ours"], rates["float32"], strict=True))
    reached = [time_to(one["evaluations"], target) for one in runs["ours"]]
    shown = ", ".join("not reached" if seconds is None else f"{seconds:.1f}" for seconds in reached)
    share = [seconds / their_seconds for seconds in reached if seconds is not None]
    lines = [
        f"- Rows/s against their float32 default, from steps {WARM_STEPS + 1} to {RATE_STEPS}, in turn: "
        f"{mean(rates['ours']):.1f} to {mean(rates['float32']):.1f}, {full_ratios[0]:.2f} to {full_ratios[-1]:.2f} "
        f"times (peak memory of theirs {full['peak_bytes'] / 2**30:.2f} GiB).",
        f"- Whole runs against their {FASTEST}, by length, evaluations included: {mean(ratios):.2f} times as fast "
        f"({min(ratios):.2f} to {max(ratios):.2f}).",
        f"- Test accuracy, same recipe less theirs: {difference(runs['same'], runs['theirs'])}.",
        f"- Test accuracy, as a user gets it less theirs: {difference(runs['ours'], runs['theirs'])}.",
        f"- Seconds until three evaluations in a row reach their mean final validation accuracy ({target:.4f}), one "
        f"every {EVALUATIONS['evaluation_steps']} steps from step {EVALUATIONS['first_evaluation']} on, whose time "
        f"counts: {shown}; their run takes {their_seconds:.1f}"
        + (f", so {mean(share):.2f} of it." if len(share) == len(reached) else "."),
        "- Seconds from the last evaluation, where the clock above stops, until ours has written its report and the "
        f"model: {spread([one['seconds_afterwards'] for one in runs['ours']], 1)}.",
    ]
    chosen = {name: value for name, value in runs["ours"][0]["recipe"].items() if name not in ("seed",)}
    recipe = ", ".join(f"{name} {value}" for name, value in chosen.items())
    versions = ", ".join(f"{name} {value}" for name, value in full["versions"].items())
    about = (
        f"{case.rows:,} training rows, seeds {', '.join(map(str, SEEDS))}; both sides: "
        + ", ".join(f"{name} {value}" for name, value in case.same.items())
        + f". Peer: {versions}. Validation accuracy: of the weights that are kept (theirs: the last). Calibration "
        "error: the ECE of the test rows."
        + ("" if FASTEST == "bf16" else " This CPU has no bfloat16 in hardware: both sides compute in float32.")
    )
    return [
        f"## {case.name}",
        about,
        table(header, rows),
        "\n".join(lines),
        f"The recipe a user gets: {recipe}.",
    ]


def held_out(one: dict[str, Any]) -> float:
    """Accuracy of the kept weights: the best of ours, the last of theirs."""
    scores = [score for _, _, score in one["evaluations"]]
    return max(scores) if "recipe" in one else scores[-1]


def sureness_gap(one: dict[str, Any]) -> float:
    """Expected calibration error on the test rows."""
    found: float = calibration(np.array(one["confidence"]), np.array(one["right"], dtype=bool))["ece"]
    return found


def time_to(evaluations: Sequence[Sequence[float]], target: float) -> float | None:
    """Seconds at the third evaluation in a row that reaches the target."""
    row = 0
    for _, seconds, score in evaluations:
        row = row + 1 if score >= target else 0
        if row == 3:
            return seconds
    return None


def difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """Mean over the seeds of the accuracies' difference in points, with a 95% bootstrap interval over the test rows,
    which both sides answered."""
    per_row = np.mean([one["right"] for one in ours], axis=0) - np.mean([one["right"] for one in theirs], axis=0)
    generator = np.random.default_rng(0)
    draws = generator.integers(len(per_row), size=(10_000, len(per_row)))
    low, high = np.quantile(per_row[draws].mean(axis=1), [0.025, 0.975])
    return f"{per_row.mean() * 100:+.2f} points ({low * 100:+.2f} to {high * 100:+.2f})"


def spread(values: Sequence[float], digits: int) -> str:
    return f"{mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
