"""Steps and evaluations of MiniLM on the movie sentences with a lane for each core (training/lanes.py), against
operations that all cores share, in turn in one process.

    python -m benchmarks.bench_lanes --home .vitrine
"""

import argparse
import time
from pathlib import Path

import torch
from tqdm import tqdm

import training.evaluate
import training.trainer
from benchmarks.report import environment, table, write
from benchmarks.steps import STEPS, Movies, in_turn, steps_per_second
from model.capability import has_bfloat16
from training.config import Recipe
from training.lanes import most_lanes
from training.parallel import ALONE
from training.trainer import Objective

PAIRS, EVALUATIONS, SHARED_TOKENS = 7, 2, 4096
HEADER = ["what", "cores share", "a lane each", "ratio, median", "least to most"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".vitrine"))
    movies = Movies(parser.parse_args().home)
    lane_tokens = training.evaluate.LANE_TOKENS
    formats = [False, *([True] if has_bfloat16(torch.device("cpu")) else [])]
    rows, held_out = [], 0
    with tqdm(total=6 * PAIRS * len(formats), unit="run") as bar:

        def choose(apart: bool) -> None:
            most = most_lanes if apart else lambda _: 1
            training.trainer.most_lanes = training.evaluate.most_lanes = most
            training.evaluate.LANE_TOKENS = lane_tokens if apart else SHARED_TOKENS
            bar.update()

        for bfloat16 in formats:
            name = "bfloat16" if bfloat16 else "float32"
            for dropout in (0.0, 0.1):
                recipe = Recipe(learning_rate=1e-4, dropout=dropout, bfloat16=bfloat16, max_length=128)

                def steps(apart: bool, recipe: Recipe = recipe) -> float:
                    choose(apart)
                    return steps_per_second(movies.objective(recipe), recipe)

                cells = in_turn(PAIRS, lambda: steps(False), lambda: steps(True))
                rows.append([f"steps/s, {name}, dropout {dropout:g}", *cells])
            objective = movies.objective(Recipe(max_length=128))
            held_out = objective.num_validation

            def rows_a_second(apart: bool, bfloat16: bool = bfloat16, objective: Objective = objective) -> float:
                choose(apart)
                began = time.perf_counter()
                with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                    for _ in range(EVALUATIONS):
                        objective.evaluate(ALONE)
                return EVALUATIONS * objective.num_validation / (time.perf_counter() - began)

            cells = in_turn(PAIRS, lambda: rows_a_second(False), lambda: rows_a_second(True))
            rows.append([f"held-out rows/s, {name}", *cells])
    about = f"""MiniLM-L6, movie sentences, batches of 32; {PAIRS} pairs of {STEPS} steps, in turn, checkpoints and
    evaluations left out, and of evaluations of {held_out:,} rows (where cores share, {SHARED_TOKENS:,}
    tokens a batch, as was best for them; a lane {lane_tokens:,}). Command: `python -m benchmarks.bench_lanes`."""
    write("lanes", "\n\n".join(["# A lane for each core", f"{environment()}.", about, table(HEADER, rows)]))


if __name__ == "__main__":
    main()
