"""Fine-tuning steps of MiniLM with the token embedding's unread rows left waiting, against torch's AdamW over all of
them, in turn in one process.

    python -m benchmarks.bench_row_adamw --home .vitrine
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from tqdm import tqdm

import training.optim
from benchmarks.report import environment, table, write
from model.capability import has_bfloat16
from model.weights import load_model
from training.catalogue import fetch_minilm, write_splits
from training.config import Recipe
from training.finetune import encode, head_config, load_data, make_objective, with_head
from training.trainer import Objective, Trainer

PAIRS, STEPS, WARM_STEPS = 5, 30, 5
HEADER = ["number format", "AdamW, steps/s", "rows wait, steps/s", "ratio, median", "least to most"]


class Enough(Exception):
    """The steps that are timed have been made."""


def steps_per_second(objective: Objective, recipe: Recipe, waiting: bool) -> float:
    """Of the first steps of a run, the warm ones left out."""
    training.optim.LARGE_VOCABULARY = 4096 if waiting else 10**9
    marks: list[float] = []

    def note() -> bool:
        marks.append(time.perf_counter())
        if len(marks) > WARM_STEPS + STEPS:
            raise Enough
        return False

    with tempfile.TemporaryDirectory() as folder:
        optimisation = recipe.optimisation_for("accuracy")
        trainer = Trainer(objective, optimisation, Path(folder) / "checkpoint", "run", interrupted=note)
        try:
            list(trainer.run())
        except Enough:
            return STEPS / (marks[-1] - marks[WARM_STEPS])
    raise AssertionError("the run was too short")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".vitrine"))
    home = parser.parse_args().home
    base, tokenizer = load_model(fetch_minilm(home / "cache"))
    with tempfile.TemporaryDirectory() as folder:
        train, validation, _ = write_splits("movie-sentiment", home / "cache", Path(folder))
        data = load_data(train, validation, Recipe())
    formats = [False, *([True] if has_bfloat16(torch.device("cpu")) else [])]
    rows = []
    with tqdm(total=2 * PAIRS * len(formats), unit="run") as bar:
        for bfloat16 in formats:
            recipe = Recipe(learning_rate=1e-4, layer_decay=0.9, bfloat16=bfloat16, max_length=128)
            rates: dict[bool, list[float]] = {False: [], True: []}
            for _, waiting in itertools.product(range(PAIRS), (False, True)):
                model = with_head(base, head_config(base.config, data.task, data.labels, recipe))
                encoded = [encode(part, tokenizer, data.labels, 128) for part in (data.train, data.validation)]
                objective = make_objective(data.task, model, *encoded, recipe)
                rates[waiting].append(steps_per_second(objective, recipe, waiting))
                bar.update()
            ratios = sorted(ours / theirs for theirs, ours in zip(rates[False], rates[True], strict=True))
            name = "bfloat16" if bfloat16 else "float32"
            spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
            medians = [f"{median(rates[waiting]):.2f}" for waiting in (False, True)]
            rows.append([name, *medians, f"{median(ratios):.3f}", spread])
    about = f"""MiniLM-L6 (30,522 tokens), movie sentences, batches of 32; {PAIRS} pairs of {STEPS} steps, in turn,
    checkpoints and evaluations left out. Command: `python -m benchmarks.bench_row_adamw`."""
    write(
        "row_adamw",
        "\n\n".join(["# Unread rows of the token embedding wait", f"{environment()}.", about, table(HEADER, rows)]),
    )


if __name__ == "__main__":
    main()
