"""A hundred adapters over one base, in one queue: what mixing them costs, and what memory each takes.

make bench-adapters
"""

import gc
import random
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import psutil
import torch
from tqdm import tqdm

from benchmarks.encode_ours import loaded_model
from benchmarks.in_process import in_process
from benchmarks.report import environment, parser_of, table, write
from benchmarks.serving import SEED, some
from model.capability import has_bfloat16
from model.heads import TextModel
from model.lora import Adapter, LoraConfig, LoraLinear, make_trainable, take_adapter
from model.weights import load_model
from service.engine.runner import LoadedModel
from training.catalogue import fetch_minilm, movie_sentiment

ADAPTERS, ROUNDS, SENTENCES, BATCH_TOKENS = 100, 7, 1_024, 2_048
LABELS = ("negative", "positive")


@dataclass
class Mix:
    """Which model each sentence is for."""

    name: str
    models: Sequence[LoadedModel]
    rates: list[float] = field(default_factory=list)  # tokens/s


def random_adapter(body: TextModel, seed: int) -> Adapter:
    """Of a classifier, every factor random and none zero."""
    model = TextModel(body.config.with_task("classification", LABELS, pooling="mean", pooler="none"))
    model.stack.load_state_dict(body.stack.state_dict())
    lora = LoraConfig()
    make_trainable(model, lora)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LoraLinear):
                module.down.normal_(std=0.02, generator=generator)
                module.up.normal_(std=0.02, generator=generator)
    return replace(take_adapter(model, lora), body_sha256=None)


def main() -> None:
    given = parser_of(__doc__).parse_args()
    folder = fetch_minilm(given.home / "cache")
    dtype = "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
    base = loaded_model(folder, dtype)
    sentences = some([row["text"] for row in movie_sentiment(given.home / "cache")["train"]], SENTENCES)
    encodings = base.tokenizer.encode(sentences, 512)
    body, _ = load_model(folder)
    adapters = [random_adapter(body, seed) for seed in range(ADAPTERS)]
    gc.collect()
    before = psutil.Process().memory_info().rss
    models = [
        replace(base, id=f"a{n}", tag=f"a:{n}", config=one.config, slot=base.bank.add(one))
        for n, one in enumerate(adapters)
    ]
    grown = psutil.Process().memory_info().rss - before
    size = base.bank.base.body.embeddings.token.weight.element_size()
    weights = sum(
        sum(factor.numel() * size for pair in one.factors.values() for factor in pair)
        + sum(tensor.nbytes for tensor in one.head.values())
        for one in adapters
    )
    chance = random.Random(SEED)
    mixes = [
        Mix("one adapter", [replace(models[0]) for _ in encodings]),  # as many calls as with many adapters
        Mix(f"{ADAPTERS} adapters, random order", [chance.choice(models) for _ in encodings]),
    ]
    tokens = sum(len(encoding.ids) for encoding in encodings)
    with in_process(BATCH_TOKENS) as engine:
        for number in tqdm(range(ROUNDS + 1), unit="round"):
            for mix in mixes:
                began = time.perf_counter()
                engine.run(mix.models, "classify", encodings)
                if number:  # the first is a warm-up
                    mix.rates.append(tokens / (time.perf_counter() - began))
    ratios = sorted(many / one for one, many in zip(mixes[0].rates, mixes[1].rates, strict=True))
    rows = [
        [mix.name, f"{statistics.median(mix.rates):,.0f} ({min(mix.rates):,.0f} to {max(mix.rates):,.0f})"]
        for mix in mixes
    ]
    about = f"""all-MiniLM-L6-v2 in {dtype}, adapters of rank 8 over every linear with a head of their own, all factors
    random, unmerged on both sides; {SENTENCES:,} movie sentences ({tokens:,} tokens) to classify, one
    call each, all at once, computed by the service's engine in the order they come; {ROUNDS} rounds in turn after a
    warm-up. tokens/s: median (least to most)."""
    median = statistics.median(ratios)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    lines = [
        f"- {ADAPTERS} adapters against one: {median:.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f}).",
        f"- Memory that {ADAPTERS} adapters take: {grown / 2**20:.1f} MiB resident for {weights / 2**20:.1f} MiB of "
        f"weights ({grown / weights:.2f} times); the whole process {peak:,.0f} MiB at most.",
    ]
    parts = ["# A hundred adapters over one base", f"{environment(('torch', 'tokenizers'))}.", about]
    parts += [table(["mix", "tokens/s"], rows), "\n".join(lines), "Command: `make bench-adapters`."]
    write("adapters", "\n\n".join(parts))


if __name__ == "__main__":
    main()
