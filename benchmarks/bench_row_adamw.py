"""Fine-tuning steps of MiniLM with the token embedding's unread rows left waiting, against torch's AdamW over all of
them, in turn in one process.

    python -m benchmarks.bench_row_adamw --home .vitrine
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

import training.optim
from benchmarks.report import environment, table, write
from benchmarks.steps import STEPS, Movies, in_turn, steps_per_second
from model.capability import has_bfloat16
from training.config import Recipe

PAIRS = 5
HEADER = ["number format", "AdamW, steps/s", "rows wait, steps/s", "ratio, median", "least to most"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".vitrine"))
    movies = Movies(parser.parse_args().home)
    formats = [False, *([True] if has_bfloat16(torch.device("cpu")) else [])]
    rows = []
    with tqdm(total=2 * PAIRS * len(formats), unit="run") as bar:
        for bfloat16 in formats:
            recipe = Recipe(learning_rate=1e-4, layer_decay=0.9, bfloat16=bfloat16, max_length=128)

            def rate(waiting: bool, recipe: Recipe = recipe) -> float:
                training.optim.LARGE_VOCABULARY = 4096 if waiting else 10**9
                bar.update()
                return steps_per_second(movies.objective(recipe), recipe)

            cells = in_turn(PAIRS, lambda: rate(False), lambda: rate(True))
            rows.append(["bfloat16" if bfloat16 else "float32", *cells])
    about = f"""MiniLM-L6 (30,522 tokens), movie sentences, batches of 32; {PAIRS} pairs of {STEPS} steps, in turn,
    checkpoints and evaluations left out. Command: `python -m benchmarks.bench_row_adamw`."""
    write(
        "row_adamw",
        "\n\n".join(["# Unread rows of the token embedding wait", f"{environment()}.", about, table(HEADER, rows)]),
    )


if __name__ == "__main__":
    main()
