"""Classification by the first token's vector: with what the last layer gives for all tokens, and for the first alone.

make bench-first-token
"""

import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import torch
from tqdm import tqdm

from benchmarks.encode_ours import served
from benchmarks.in_process import in_process
from benchmarks.report import environment, parser_of, table, write
from benchmarks.serving import some
from model.capability import has_bfloat16, has_int8
from model.heads import TextModel
from model.weights import load_model
from training.catalogue import fetch_minilm, movie_sentiment

SENTENCES, ROUNDS, BATCH_TOKENS = 1_024, 9, 2_048


def main() -> None:
    given = parser_of(__doc__).parse_args()
    cache, cpu = given.home / "cache", torch.device("cpu")
    able = {"float32": True, "bfloat16": has_bfloat16(cpu), "int8": has_int8(cpu)}
    base, tokenizer = load_model(fetch_minilm(cache))
    sentences = some([row["text"] for row in movie_sentiment(cache)["train"]], SENTENCES)
    encodings = sorted(tokenizer.encode(sentences, 512), key=lambda encoding: -len(encoding.ids))
    tokens = sum(len(encoding.ids) for encoding in encodings)
    rows = []
    with in_process(BATCH_TOKENS) as engine:
        for dtype in filter(able.__getitem__, able):
            model = TextModel(replace(base.config, task="classification", labels=("no", "yes"), pooling="first"))
            model.stack.load_state_dict(base.stack.state_dict())
            models = [served(model.eval().requires_grad_(False), tokenizer, dtype)] * len(encodings)
            found: dict[bool, list[float]] = {True: [], False: []}
            for _ in tqdm(range(ROUNDS + 1), unit="round", desc=dtype):
                for whole, rates in found.items():
                    of_all = patch("service.engine.runner._needs_first_tokens_alone", return_value=False)
                    with of_all if whole else nullcontext():
                        began = time.perf_counter()
                        engine.run(models, "classify", encodings)
                        rates.append(tokens / (time.perf_counter() - began))
            every, first = (rates[1:] for rates in found.values())  # the first warms up
            ratios = [few / all_ for few, all_ in zip(first, every, strict=True)]
            rows.append([dtype, figures(every, ",.0f"), figures(first, ",.0f"), figures(ratios, ".2f")])
    about = f"""all-MiniLM-L6-v2 with a head for two classes over the first token's vector; {SENTENCES:,} movie
    sentences, {tokens:,} tokens, by length; in process, {ROUNDS} rounds in turn, warmed up: median (least to most)."""
    head = ["number format", "tokens/s, all tokens in the last layer", "first alone", "times"]
    write(
        "first_token",
        "# The last layer for the first token alone\n\n"
        f"{environment(('torch',))}.\n\n{about}\n\n{table(head, rows)}\n\nCommand: `make bench-first-token`.",
    )


def figures(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
