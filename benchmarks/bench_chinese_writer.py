"""A small causal Transformer against an interpolated Kneser-Ney n-gram on the same tokens, in bits per character.

    python -m benchmarks.bench_chinese_writer --home .vitrine

Trains first, unless `vitrine pretrain chinese-writer` has done so. The order of the n-gram is the best on validation.
"""

import math
import time

import torch

from benchmarks.report import environment, parser_of, table, took, trained, write
from model.generation import Sampling, Writing, write_all
from model.weights import load_model
from training.baselines import KneserNey
from training.catalogue import language_model_texts
from training.corpus import Corpus, build_corpus, open_corpus
from training.objectives import CausalLanguageModel
from training.pretrain import packed_rows

ORDERS = (3, 4, 5, 6)
PROMPTS = ("中国", "酒店的房间", "这本书")


def documents(corpus: Corpus) -> list[list[int]]:
    return [corpus.document(index) for index in range(len(corpus))]


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    output, manifest = trained("chinese-writer", arguments.home)
    model, tokenizer = load_model(output / "model")
    test = build_corpus(language_model_texts(arguments.home / "cache")["test"], tokenizer, output / "corpus" / "test")
    train, validation = (open_corpus(output / "corpus" / name) for name in ("train", "validation"))

    rows = packed_rows(test, tokenizer, model.config, manifest["recipe"]["row_tokens"])
    objective = CausalLanguageModel(model, rows, rows, 16, 0)
    with torch.inference_mode():
        scores = objective.evaluate()
    assert scores.num_tokens == test.num_tokens + len(test), "every token and every end is predicted once"
    ours = scores.loss * scores.num_tokens / math.log(2) / test.num_characters

    started = time.time()
    by_order: dict[int, tuple[float, float]] = {}
    for order in ORDERS:
        ngram = KneserNey(order).fit(documents(train), model.config.vocab_size)
        by_order[order] = (
            ngram.bits(documents(validation)) / validation.num_characters,
            ngram.bits(documents(test)) / test.num_characters,
        )
        print(order, by_order[order], flush=True)
    best = min(by_order, key=lambda order: by_order[order][0])
    theirs = by_order[best][1]
    writings = [
        Writing(tokenizer.encode([prompt], 64, special_tokens=False)[0].ids, Sampling(48, 0.8, top_p=0.9, seed=1))
        for prompt in PROMPTS
    ]
    write_all(model, writings)
    samples = [f"- {p}**{tokenizer.decode(w.ids).strip()}**" for p, w in zip(PROMPTS, writings, strict=True)]
    ngrams = [
        (
            f"Kneser-Ney, order {order}{' (best on validation)' if order == best else ''}",
            f"{on_validation:.3f}",
            f"{on_test:.3f}",
        )
        for order, (on_validation, on_test) in by_order.items()
    ]
    validation_bits = manifest["metrics"]["loss"] * manifest["metrics"]["num_tokens"] / math.log(2)
    transformer = (
        "Transformer, causal",
        f"{validation_bits / validation.num_characters:.3f}",
        f"{ours:.3f}",
    )
    winner, loser = ("Transformer", "n-gram") if ours < theirs else ("n-gram", "Transformer")
    best_bits, other_bits = min(ours, theirs), max(ours, theirs)
    write(
        "chinese_writer",
        f"""# A small causal language model against an n-gram

Why: an interpolated, modified Kneser-Ney n-gram (Chen and Goodman 1998) is strong on little text; a Transformer that
loses to it has learned nothing worth its cost.

{environment()}. Command:

    make bench-chinese-writer

The model ({manifest["config"]["num_layers"]} layers, width {manifest["config"]["width"]}) was trained on {
            manifest["train_tokens"]:,} tokens of Chinese news and reviews, {
            manifest["recipe"]["num_epochs"]
        } epochs, in {took(manifest)}. Same tokens for both (byte-level BPE that never joins two Chinese
characters); {test.num_tokens:,} test tokens in {len(test):,} documents, ends of documents counted as predictions. The
Transformer sees at most {
            manifest["recipe"]["row_tokens"]
        } tokens at once and starts each piece of a longer document with
one token of context; the n-gram sees its full context everywhere.

{table(("bits per character", "validation", "test"), [transformer, *ngrams])}

The {winner} wins on the test text: {best_bits:.3f} bits per character against the {loser}'s {other_bits:.3f}, {
            100 * (1 - best_bits / other_bits):.1f}% fewer.
The n-grams took {time.time() - started:.0f} s in all.

What it writes (temperature 0.8, top-p 0.9, seed 1; the prompt, then in bold its own words):

{chr(10).join(samples)}
""",
    )


if __name__ == "__main__":
    main()
