"""Does pre-training pay? The Chinese encoder of this project, fine-tuned on 1,000 labelled reviews, against the same
network from random weights and against TF-IDF with logistic regression on characters; five seeds.

    python -m benchmarks.bench_chinese_encoder --home .vitrine

Pre-trains first, unless `vitrine pretrain chinese-encoder` has done so; test reviews are seen by neither.
"""

import random
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from datasets import Dataset

from benchmarks.report import environment, follow, mean_and_spread, parser_of, table, trained, write
from model.folders import load_tokenizer
from model.heads import TextModel
from model.weights import load_model, save_model
from training.baselines import character_tfidf
from training.catalogue import chinese_reviews
from training.config import Recipe
from training.data import Examples
from training.evaluate import evaluate
from training.finetune import Data, encode, finetune
from training.recipes import chinese_encoder_config

NUM_LABELS = 1_000
SEEDS = range(5)
LABELS = ("negative", "positive")
CPU = torch.device("cpu")
# Learning rates chosen on the validation split, seed 0: each network has the one that suits it.
PRETRAINED = Recipe(num_epochs=8, batch_size=32, learning_rate=5e-4, max_length=128, pooling="mean", pooler="none")
SCRATCH = replace(PRETRAINED, num_epochs=10, batch_size=16, learning_rate=1e-3)


@dataclass(frozen=True)
class Split:
    """Reviews of one split."""

    texts: list[str]
    labels: list[str]

    def examples(self, indices: list[int], name: str) -> Examples:
        rows = {"text": [self.texts[i] for i in indices], "label": [self.labels[i] for i in indices]}
        return Examples(Dataset.from_dict(rows | {"text_pair": [""] * len(indices)}), name)


def accuracy(base: Path, train: Split, test: Split, indices: list[int], recipe: Recipe, name: str) -> float:
    """Fine-tunes `base` on the chosen rows -> accuracy on the test split."""
    few = list(range(0, len(test.texts), 40))  # scores on the way are not used
    data = Data(train.examples(indices, name), test.examples(few, name), LABELS)
    with tempfile.TemporaryDirectory() as output:
        follow(finetune(base, data, recipe, Path(output), CPU), name)
        model, tokenizer = load_model(Path(output) / "model")
    rows = encode(test.examples(list(range(len(test.texts))), "test"), tokenizer, LABELS, recipe.max_length)
    with torch.autocast("cpu", dtype=torch.bfloat16):
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
    scores: dict[str, list[float]] = {"pre-trained, then tuned": [], "same network, random weights": [], "TF-IDF": []}
    for seed in range(arguments.seeds):
        indices = random.Random(seed).sample(range(len(train.texts)), NUM_LABELS)
        with tempfile.TemporaryDirectory() as folder:
            base = random_base(output / "model", Path(folder), seed)
            tuned = accuracy(output / "model", train, test, indices, replace(PRETRAINED, seed=seed), f"tuned {seed}")
            scratch = accuracy(base, train, test, indices, replace(SCRATCH, seed=seed), f"random {seed}")
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
            manifest["steps"]:,} steps) in {manifest["seconds"] / 60:.1f} minutes with {
            manifest["threads"]
        } thread(s); loss on held-out text {
            manifest["metrics"]["loss"]:.3f} nats a hidden token. Held-out texts of either kind are never in it. Then
{NUM_LABELS:,} labelled reviews, drawn by five seeds; accuracy on the {len(test.texts):,} {arguments.split} reviews.

{table(("", "accuracy, mean ± deviation", "by seed"), rows)}

Pre-training gains {sum(gains) / len(gains):.1f} points over random weights ({min(gains):.1f} to {
            max(gains):.1f}, pair by
pair), and {
            sum(against_tfidf)
            / len(against_tfidf):+.1f} points against TF-IDF of characters with logistic regression ({
            min(against_tfidf):+.1f} to {max(against_tfidf):+.1f}). Tuning and testing took {
            (time.time() - started) / 60:.1f} minutes after pre-training. Learning rate and epochs of each network were
chosen on the validation split with seed 0: {PRETRAINED.learning_rate:g} and {PRETRAINED.num_epochs} epochs, {
            SCRATCH.learning_rate:g} and {SCRATCH.num_epochs} epochs.
""",
    )


if __name__ == "__main__":
    main()
