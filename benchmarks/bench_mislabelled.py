"""Are the rows that an evaluation calls mislabelled really so? 5% of the labels are flipped, a model is tuned, and the
flipped rows among those it names are counted; English and Chinese, two seeds.

    python -m benchmarks.bench_mislabelled --home .vitrine

Labels that were wrong in the data already count as misses, so the truth is a little better than the figures.
"""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sklearn.metrics import average_precision_score

from benchmarks.report import environment, follow, mean_and_spread, parser_of, table, trained, write
from model.weights import read_tensors
from training.catalogue import chinese_reviews, fetch_minilm, movie_sentiment
from training.choose import choose_recipe
from training.config import Recipe
from training.data import Examples
from training.dynamics import Dynamics, cartography
from training.evaluation.files import REPORT_FILE
from training.evaluation.mislabelled import out_of_fold, suspicion
from training.evaluation.ratio import Numbers
from training.finetune import Data, finetune

FLIPPED_SHARE = 0.05
NAMED = 100
SEEDS = range(2)
LABELS = ("negative", "positive")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """A labelled set, and the base that is tuned on it."""

    name: str
    base: Path
    train: Dataset
    validation: Dataset


def subjects(home: Path) -> Iterator[Subject]:
    movies = movie_sentiment(home / "cache")
    yield Subject("movie sentences", fetch_minilm(home / "cache"), movies["train"], movies["validation"])
    encoder, _ = trained("chinese-encoder", home)
    reviews = chinese_reviews(home / "cache")
    yield Subject("Chinese reviews", encoder / "model", reviews["train"], reviews["validation"])


def flip(labels: list[str], seed: int) -> set[int]:
    """Which rows get the other label."""
    return set(random.Random(seed).sample(range(len(labels)), round(FLIPPED_SHARE * len(labels))))


def examples(rows: Dataset, flipped: set[int], name: str) -> Examples:
    labels = [LABELS[label == LABELS[0]] if row in flipped else label for row, label in enumerate(rows["label"][:])]
    columns = {"text": list(rows["text"][:]), "text_pair": [""] * len(labels), "label": labels}
    return Examples(Dataset.from_dict(columns), name)


def witnesses(subject: Subject, seed: int) -> tuple[dict[str, Numbers], set[int], int, Recipe]:
    """Suspicion of each training row by each witness, the flipped rows, how many of the named ones are of them, and the
    recipe that was chosen."""
    flipped = flip(subject.train["label"][:], seed)
    train = examples(subject.train, flipped, f"{subject.name} {seed}")
    data = Data(train, examples(subject.validation, set(), "validation"), LABELS)
    recipe = choose_recipe({"seed": seed}, data, subject.base).recipe
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        follow(finetune(subject.base, data, recipe, output, CPU), f"{subject.name} {seed}")
        dynamics = Dynamics(recipe.num_epochs, len(train.rows))
        dynamics.restore(read_tensors(output / "checkpoint" / "gathered.safetensors"))
        report = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
    rows, outside, count = cartography(dynamics), out_of_fold(train, LABELS), len(train.rows)
    found = {
        "both": suspicion(rows, outside, count),
        "training alone (area under the margin)": suspicion(rows, None, count),
        "TF-IDF out of fold alone": suspicion(None, outside, count),
        "mean probability while training": -rows.confidence,
        "deviation while training": rows.variability,
    }
    named = sum(item["line"] - 1 in flipped for item in report["mislabelled"]["worst"][:NAMED])
    return found, flipped, named, recipe


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    started = time.time()
    parts = []
    for subject in subjects(arguments.home):
        first: dict[str, list[float]] = {}
        precision: dict[str, list[float]] = {}
        for seed in SEEDS:
            found, flipped, named, recipe = witnesses(subject, seed)
            wrong = np.isin(np.arange(len(subject.train)), sorted(flipped))
            for name, scores in found.items():
                order = np.argsort(-scores, kind="stable")
                first.setdefault(name, []).append(float(wrong[order[:NAMED]].sum()))
                precision.setdefault(name, []).append(float(average_precision_score(wrong, scores)))
            if named != first["both"][-1]:
                raise RuntimeError(f"the report names {named} flipped rows, the same rule here {first['both'][-1]}")
            print(subject.name, seed, {name: values[-1] for name, values in first.items()}, flush=True)
        rows = [
            (name, ", ".join(f"{value:.0f}" for value in values), mean_and_spread(precision[name]))
            for name, values in first.items()
        ]
        heading = f"## {subject.name.capitalize()}: {len(subject.train):,} rows, {recipe.num_epochs} epochs"
        parts.append(f"{heading}\n\n{table(('', f'flipped among the first {NAMED}', 'average precision'), rows)}")
    seeds, minutes, body = ", ".join(map(str, SEEDS)), (time.time() - started) / 60, "\n\n".join(parts)
    write(
        "mislabelled",
        f"""# Rows that are most likely mislabelled

Why: to know how far to trust that list of an evaluation, and whether its two witnesses are better than one.

{environment()}. Command:

    make bench-mislabelled

{FLIPPED_SHARE:.0%} of the training labels are flipped, by seeds {seeds}; then a model is tuned as a user gets it who
sets nothing, and the rows are ordered by how much speaks against their label. Labels that were wrong before count as
misses. It took {minutes:.0f} minutes.

{body}
""",
    )


if __name__ == "__main__":
    main()
