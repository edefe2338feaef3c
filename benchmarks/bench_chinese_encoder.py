"""Does pre-training pay? The Chinese encoder of this project, fine-tuned on 1,000 labelled reviews, against the same
network from random weights and against TF-IDF with logistic regression on characters; five seeds.

    python -m benchmarks.bench_chinese_encoder --home .vitrine

Pre-trains first, unless `vitrine pretrain chinese-encoder` has done so; test reviews are seen by neither.
"""

import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from benchmarks.report import environment, follow, mean_and_spread, parser_of, table, took, trained, write
from model.capability import has_bfloat16
from model.folders import load_tokenizer
from model.heads import TextModel
from model.weights import load_model, save_model
from training.baselines import character_tfidf
from training.catalogue import chinese_reviews
from training.choose import choose_recipe
from training.config import Recipe
from training.data import load_examples
from training.evaluate import evaluate
from training.finetune import encode, finetune, load_data
from training.recipes import chinese_encoder_config

NUM_LABELS = 1_000
SEEDS = range(5)
LABELS = ("negative", "positive")
CPU = torch.device("cpu")
# What is set by hand for random weights, which want more than the recipe that a user gets; learning rate and dropout
# were chosen on the validation split with seed 0.
SCRATCH: dict[str, Any] = {
    "learning_rate": 1e-3, "num_epochs": 10, "batch_size": 16, "layer_decay": 1.0, "dropout": 0.1, "pooling": "mean",
    "pooler": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Reviews of one split."""

    texts: list[str]
    labels: list[str]

    def rows(self, indices: Sequence[int]) -> Dataset:
        return Dataset.from_dict({"text": [self.texts[i] for i in indices], "label": [self.labels[i] for i in indices]})


def accuracy(base: Path, labelled: Dataset, test: Dataset, wanted: Mapping[str, Any], name: str) -> float:
    """Fine-tunes `base` on the labelled rows, a tenth of them held out to choose the weights by -> accuracy on the test
    rows."""
    data = load_data(labelled, None, Recipe())
    recipe = choose_recipe(wanted, data, base).recipe
    with tempfile.TemporaryDirectory() as output:
        follow(finetune(base, data, recipe, Path(output), CPU), name)
        model, tokenizer = load_model(Path(output) / "model")
    rows = encode(load_examples(test), tokenizer, LABELS, recipe.max_length)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_bfloat16(CPU)):
        return evaluate(model, rows.encodings, rows.targets).accuracy


def random_base(pretrained: Path, folder: Path, seed: int) -> Path:
    """The same network and tokenizer with random weights."""
    tokenizer = load_tokenizer(pretrained)
    torch.manual_seed(seed)
    save_model(TextModel(chinese_encoder_config(tokenizer)), tokenizer, folder)
    return folder


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    arguments = parser.parse_args()
    started = time.time()
    output, manifest = trained("chinese-encoder", arguments.home)
    splits = {
        name: Split(list(rows["text"]), list(rows["label"]))
        for name, rows in chinese_reviews(arguments.home / "cache").items()
    }
    train, test = splits["train"], splits[arguments.split]
    asked = test.rows(range(len(test.texts)))
    scores: dict[str, list[float]] = {"pre-trained, then tuned": [], "same network, random weights": [], "TF-IDF": []}
    for seed in range(arguments.seeds):
        indices = random.Random(seed).sample(range(len(train.texts)), NUM_LABELS)
        with tempfile.TemporaryDirectory() as folder:
            base = random_base(output / "model", Path(folder), seed)
            labelled = train.rows(indices)
            tuned = accuracy(output / "model", labelled, asked, {"seed": seed}, f"tuned {seed}")
            scratch = accuracy(base, labelled, asked, {"seed": seed, **SCRATCH}, f"random {seed}")
        baseline = character_tfidf().fit([train.texts[i] for i in indices], [train.labels[i] for i in indices])
        tfidf = float(baseline.score(test.texts, test.labels))
        for name, score in zip(scores, (tuned, scratch, tfidf), strict=True):
            scores[name].append(score)
        print(seed, {name: round(values[-1], 4) for name, values in scores.items()}, flush=True)
    rows = [
        (name, mean_and_spread(values), ", ".join(f"{value:.3f}" for value in values))
        for name, values in scores.items()
    ]
    first, second, third = scores.values()
    gains = [100 * (a - b) for a, b in zip(first, second, strict=True)]
    against_tfidf = [100 * (a - b) for a, b in zip(first, third, strict=True)]
    write(
        "chinese_encoder" if arguments.split == "test" else "chinese_encoder_validation",
        f"""# Pre-training a Chinese encoder

Why: to know whether pre-training from scratch on 2.7 million characters pays, and against what.

{environment()}. Command:

    make bench-chinese-encoder

The encoder ({manifest["config"]["num_layers"]} layers, width {manifest["config"]["width"]}, {
            manifest["config"]["vocab_size"]:,} WordPieces) was pre-trained as a masked language model on the training
reviews and the training news ({manifest["train_tokens"]:,} tokens, {manifest["recipe"]["num_epochs"]} epochs, {
            manifest["steps"]:,} steps) in {took(manifest)}; loss on held-out text {
            manifest["metrics"]["loss"]:.3f} nats a hidden token. Held-out texts of either kind are never in it. Then
{NUM_LABELS:,} labelled reviews, drawn by five seeds, a tenth of
them held out to choose the networks' weights by; accuracy on the {len(test.texts):,} {arguments.split} reviews.

{table(("", "accuracy, mean ± deviation", "by seed"), rows)}

Pre-training gains {sum(gains) / len(gains):.1f} points over random weights ({min(gains):.1f} to {
            max(gains):.1f}, pair by
pair), and {
            sum(against_tfidf)
            / len(against_tfidf):+.1f} points against TF-IDF of characters with logistic regression ({
            min(against_tfidf):+.1f} to {max(against_tfidf):+.1f}). Tuning and testing took {
            (time.time() - started) / 60:.1f} minutes after pre-training. The pre-trained
network has the recipe that a user gets; random weights have {
            ", ".join(f"{key} {value}" for key, value in SCRATCH.items())
        },
chosen on the validation split with seed 0.
""",
    )


if __name__ == "__main__":
    main()
