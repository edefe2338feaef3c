"""Few labels: 8, 16 and 64 rows a class, five draws each. Our few-shot method against plain fine-tuning, against
logistic regression on frozen text vectors, and against contrastive pairs as in SetFit.

    python -m benchmarks.bench_few_shot --home .vitrine

An hour and a half on one core. What is done is kept in the state folder and not done again as long as this code and
that of `model/` and `training/` are the same, so that it may be interrupted. No method looks at held-out rows while it
learns; what was chosen was chosen on the validation splits (`--split validation`).
"""

import argparse
import functools
import json
import random
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm import tqdm

from benchmarks.report import ROOT, environment, mean_and_spread, table, write
from model.batch import pad
from model.heads import TextModel
from model.tokenizer import Tokenizer
from model.weights import load_model
from training.catalogue import chinese_reviews, fetch_minilm, movie_sentiment
from training.config import Recipe
from training.data import Examples, load_examples
from training.evaluate import text_vectors
from training.events import Evaluated
from training.few_shot import FEW_SHOT_RATE, FewShot, few_shot_fields, few_shot_objective
from training.finetune import encode, freeze, head_config, make_objective, with_head
from training.gradients import BatchLoss
from training.labelled import Rows
from training.optim import usual_learning_rate
from training.trainer import Objective, Trainer

SIZES, DRAWS = (8, 16, 64), 5
MAX_LENGTH = 128
PLAIN = Recipe(  # the best of what was tried on the validation splits, see DECISIONS.md
    num_epochs=20, batch_size=16, layer_decay=0.9, pooling="mean", pooler="none",
    max_length=MAX_LENGTH, evaluation_steps=10_000,
)  # fmt: skip
HEADER = ("rows a class", "method", "accuracy", "each draw")


@dataclass(frozen=True)
class Case:
    """A base, rows to draw from, and rows to judge by."""

    base: TextModel
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    pool: Rows[int]
    judged: Rows[int]
    judged_vectors: Tensor  # [N, D] of the base, unit length

    @classmethod
    def of(cls, base: Path, train: Examples, judged: Examples) -> "Case":
        model, tokenizer = load_model(base)
        labels = tuple(sorted(set(train.labels)))
        pool, held_out = (encode(rows, tokenizer, labels, MAX_LENGTH) for rows in (train, judged))
        return cls(
            model, tokenizer, labels, pool, held_out, F.normalize(text_vectors(model, held_out.encodings), dim=-1)
        )

    def draw(self, size: int, seed: int) -> Rows[int]:
        """So many rows of each class; a class with fewer gives all."""
        by_class: dict[int, list[int]] = defaultdict(list)
        for row, target in enumerate(self.pool.targets):
            by_class[target].append(row)
        chance = random.Random(f"{seed}:{size}")
        drawn = [
            row
            for target in sorted(by_class)
            for row in chance.sample(by_class[target], min(size, len(by_class[target])))
        ]
        return Rows([self.pool.encodings[row] for row in drawn], [self.pool.targets[row] for row in drawn])

    def model(self, recipe: Recipe) -> TextModel:
        torch.manual_seed(recipe.seed)
        model = with_head(self.base, head_config(self.base.config, "classification", self.labels, recipe))
        freeze(model, recipe.frozen_layers)
        return model


Method = Callable[[Case, Rows[int], int], float]  # a case, the drawn rows, a seed -> accuracy


def frozen(case: Case, rows: Rows[int], seed: int) -> float:
    """scikit-learn's logistic regression as it comes, on the vectors that /v1/embeddings gives."""
    vectors = F.normalize(text_vectors(case.base, rows.encodings), dim=-1)
    fitted = LogisticRegression(max_iter=1_000, random_state=seed).fit(vectors.numpy(), rows.targets)
    return float(fitted.score(case.judged_vectors.numpy(), case.judged.targets))


def plain(case: Case, rows: Rows[int], seed: int) -> float:
    """Fine-tuning from a new head, as a large file gets it, but with enough epochs for a small one."""
    recipe = replace(PLAIN, learning_rate=usual_learning_rate(case.base.config.width, FEW_SHOT_RATE), seed=seed)
    return trained(make_objective("classification", case.model(recipe), rows, case.judged, recipe), recipe)


def contrastive(case: Case, rows: Rows[int], seed: int) -> float:
    """SetFit: similar vectors for texts of one class, then logistic regression on them. Its pairs are those within a
    batch, so that it reads as many texts as our method."""
    recipe = Recipe(**few_shot_fields(len(rows.targets), case.base.config.width), max_length=MAX_LENGTH, seed=seed)
    return trained(Pairs(case.model(recipe), rows, case.judged, [], recipe.batch_size, seed, recipe.num_epochs), recipe)


def ours(case: Case, rows: Rows[int], seed: int) -> float:
    recipe = Recipe(**few_shot_fields(len(rows.targets), case.base.config.width), max_length=MAX_LENGTH, seed=seed)
    objective = few_shot_objective(case.model(recipe), case.tokenizer, rows, case.judged, recipe, None)
    return trained(objective, recipe)


METHODS: dict[str, Method] = {
    "logistic regression on frozen vectors": frozen,
    "plain fine-tuning": plain,
    "contrastive pairs (SetFit)": contrastive,
    "ours": ours,
}


class Pairs(FewShot):
    """Mean squared error of the cosine of every pair in a batch against 1 for texts of one class and 0 for others, both
    kinds of pairs with the same say (Tunstall et al. 2022)."""

    def loss(self, rows: Sequence[int], step: int) -> BatchLoss:  # noqa: ARG002 - the signature of all objectives
        batch = pad([self.train.encodings[row] for row in rows], self.model.config.pad_id)
        cosines = (vectors := self.model.embed(batch)) @ vectors.T  # [B, B]
        targets = torch.tensor([self.train.targets[row] for row in rows])
        alike = targets[:, None] == targets  # [B, B] bool
        others = ~torch.eye(len(rows), dtype=torch.bool)
        errors = (cosines - alike.float()).square()
        kinds = [errors[chosen].mean() for chosen in (alike & others, ~alike) if chosen.any()]
        mean = torch.stack(kinds).mean() if kinds else 0.0 * cosines.sum()  # a row alone has no pair
        return BatchLoss(mean * len(rows), len(rows), int(batch.real.sum()))


def trained(objective: Objective, recipe: Recipe) -> float:
    """Runs the one trainer -> accuracy on the rows to judge by, of the last weights."""
    optimisation = replace(recipe.optimisation_for("accuracy"), metric=None)
    with tempfile.TemporaryDirectory() as folder:
        last = list(Trainer(objective, optimisation, Path(folder) / "checkpoint", "run").run())[-1]
    assert isinstance(last, Evaluated)
    return last.evaluation.figures()["accuracy"]


@dataclass(frozen=True)
class Result:
    """One method at one size, draw by draw."""

    size: int
    method: str
    accuracy: list[float]

    def row(self) -> tuple[object, ...]:
        each = ", ".join(f"{value:.3f}" for value in self.accuracy)
        return self.size, self.method, mean_and_spread(self.accuracy), each


class Done:
    """Accuracies of runs that are over, by what was run and with which code."""

    def __init__(self, file: Path) -> None:
        trees = ["git", "rev-parse", "HEAD:model", "HEAD:training", "HEAD:benchmarks/bench_few_shot.py"]
        self._code = subprocess.run(trees, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        self._file = file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self._known = {json.dumps(key): accuracy for key, accuracy in map(json.loads, lines)}

    def get(self, what: Sequence[object], make: Callable[[], float]) -> float:
        key = [*what, *self._code]
        if (name := json.dumps(key)) not in self._known:
            self._known[name] = make()
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, self._known[name]]) + "\n")
        return self._known[name]


def few_shot_table(
    name: str, base: Path, train: Examples, judged: Examples, done: Done, sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
) -> list[Result]:  # fmt: skip
    """Every method on the same draws."""
    case = Case.of(base, train, judged)
    results = []
    with tqdm(total=len(sizes) * len(METHODS) * draws, unit="run", desc=name) as bar:
        for size in sizes:
            drawn = [case.draw(size, seed) for seed in range(draws)]
            for label, method in METHODS.items():
                result = Result(size, label, [])
                for seed, rows in enumerate(drawn):
                    run = functools.partial(method, case, rows, seed)
                    result.accuracy.append(done.get([name, size, label, seed], run))
                    bar.update()
                results.append(result)
    return results


def gain(results: Sequence[Result], size: int, other: str) -> str:
    """Ours less the other, in points, draw by draw: mean, least and most."""
    by_name = {result.method: result.accuracy for result in results if result.size == size}
    gains = [100 * (a - b) for a, b in zip(by_name["ours"], by_name[other], strict=True)]
    return f"{statistics.mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f})"


def section(name: str, results: Sequence[Result]) -> str:
    """One data set's part of a result file."""
    sizes = sorted({result.size for result in results})
    lines = [
        f"- {size} rows a class, ours less {other}: {gain(results, size, other)} points."
        for size in sizes
        for other in METHODS
        if other != "ours"
    ]
    return "\n\n".join([f"## {name}", table(HEADER, [result.row() for result in results]), "\n".join(lines)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".vitrine"))
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--only", choices=("movies", "chinese"), help="one of the two data sets")
    arguments = parser.parse_args()
    cache = arguments.home / "cache"
    done = Done(arguments.home / f"few-shot-{arguments.split}.jsonl")
    sections = []
    if arguments.only != "chinese":
        movies = movie_sentiment(cache)
        rows = [load_examples(movies[split]) for split in ("train", arguments.split)]
        results = few_shot_table("movies", fetch_minilm(cache), *rows, done)
        sections.append(section("Movie sentences, MiniLM-L6", results))
    if arguments.only != "movies":
        reviews = chinese_reviews(cache)
        base = arguments.home / "pretraining" / "chinese-encoder" / "model"
        rows = [load_examples(reviews[split]) for split in ("train", arguments.split)]
        results = few_shot_table("chinese", base, *rows, done)
        sections.append(section("Chinese reviews, our Chinese encoder", results))
    about = f"""Why: to know whether the few-shot method pays where it is meant to. Accuracy on the {arguments.split}
    split; mean and standard deviation of {DRAWS} draws, the same for every method. No method sees held-out rows while
    it learns. Plain fine-tuning: {PLAIN.num_epochs} epochs, the learning rate of ours,
    mean pooling."""
    suffix = "" if arguments.split == "test" else "_validation"
    write(f"few_shot{suffix}", "\n\n".join(["# Few labels", f"{environment()}.", about, *sections]))


if __name__ == "__main__":
    main()
