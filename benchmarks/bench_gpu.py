"""On one GPU: text vectors and fine-tuning against transformers, side by side in one run, on the movie sentences.

    python -m benchmarks.bench_gpu --home .vitrine

Both sides get token ids and compute in bfloat16. Their batches have a fixed number of texts, sorted by length.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModel

from benchmarks.bench_finetune import LIKE_THEIRS, SEEDS, Case, difference, movies, our_options, run, spread
from benchmarks.bench_finetune import their_options as theirs_of
from benchmarks.report import ROOT, environment, table, write
from model.batch import Batch, pad
from model.lora import AdapterBank
from model.tokenizer import Encoding
from model.weights import load_model
from service.engine.graphs import SEEN_BEFORE, Graphs
from service.engine.runner import LoadedModel
from service.engine.runner import run as run_batch
from service.formats import convert
from training.data import load_examples

GPU = torch.device("cuda")
BATCH_TEXTS = (32, 256)
PAIRS = 5
FEW_TEXTS, PASSES = (1, 8, 32), 50  # of a served batch; passes of a round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".vitrine"))
    parser.add_argument("--peer-python", type=Path, default=Path(sys.executable), help="an interpreter with the peer")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        case = movies(given.home, Path(folder))
        vectors, served, tuning = forward(case), recorded(case), fine_tuning(case, given.peer_python)
    about = f"{environment()}, transformers {transformers.__version__}, {torch.cuda.get_device_name()}"
    write("gpu", "\n\n".join(["# On a GPU against transformers", about, *vectors, *served, *tuning]))


def forward(case: Case) -> list[str]:
    """Vectors of the training texts, mean-pooled, from token ids to numbers in the CPU's memory."""
    model, tokenizer = load_model(case.ours)
    encodings = sorted(tokenizer.encode(load_examples(case.files["train"]).inputs, 128), key=lambda one: len(one.ids))
    theirs = AutoModel.from_pretrained(case.theirs, dtype=torch.bfloat16).eval().to(GPU)
    model = model.to(GPU, torch.bfloat16)
    pad_id = model.config.pad_id
    tokens = sum(len(encoding.ids) for encoding in encodings)

    def their(batch: Batch) -> Tensor:
        hidden = theirs(
            input_ids=batch.ids, attention_mask=batch.real.long(), token_type_ids=batch.segments
        ).last_hidden_state
        real = batch.real[:, :, None].to(hidden.dtype)
        return (hidden * real).sum(dim=1) / real.sum(dim=1)

    rows = []
    for size in BATCH_TEXTS:
        rates: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(PAIRS + 1):
            for name, compute in (("theirs", their), ("ours", model.embed)):
                rates[name].append(tokens / seconds(compute, encodings, size, pad_id))
        ours, others = rates["ours"][1:], rates["theirs"][1:]  # the first pair warms up
        ratios = [mine / its for mine, its in zip(ours, others, strict=True)]
        rows.append([size, f"{median(others):,.0f}", f"{median(ours):,.0f}", spread(ratios, 2)])
    header = ["texts a batch", "theirs, tokens/s", "ours, tokens/s", "ratio"]
    return [f"## Text vectors of {len(encodings):,} sentences", table(header, rows)]


def recorded(case: Case) -> list[str]:
    """Vectors of a few texts as the service computes them: the pass as one recorded launch, and its operations asked
    for one by one."""
    model, tokenizer = load_model(case.ours)
    convert(model, tokenizer, "bfloat16")
    bank = AdapterBank(model.to(GPU))
    plain = LoadedModel("m", "m:1", model.config, bank, tokenizer, "bfloat16", "m:1")
    texts = load_examples(case.files["train"]).inputs
    rows = []
    for size in FEW_TEXTS:
        batches = [tokenizer.encode(texts[start : start + size], 128) for start in range(0, PASSES * size, size)]
        ways = {"one by one": plain, "recorded": replace(plain, recorded=Graphs.of(model, GPU))}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(PAIRS + SEEN_BEFORE + 1):
            for name, loaded in ways.items():
                began = time.perf_counter()
                for batch in batches:
                    run_batch([loaded] * size, "embed", batch)
                times[name].append((time.perf_counter() - began) / PASSES)
        one_by_one, whole = (times[name][-PAIRS:] for name in ways)  # those before warm up and record
        ratios = [slow / fast for slow, fast in zip(one_by_one, whole, strict=True)]
        rows.append([size, f"{1e3 * median(one_by_one):.2f}", f"{1e3 * median(whole):.2f}", spread(ratios, 2)])
    header = ["texts a batch", "operations, ms", "recorded, ms", "ratio"]
    return ["## A served batch, by operations and as a recorded pass", table(header, rows)]


def seconds(compute: Callable[[Batch], Tensor], encodings: Sequence[Encoding], size: int, pad_id: int) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(encodings), size):
            compute(pad(encodings[start : start + size], pad_id).to(GPU)).float().cpu()
    return time.perf_counter() - began


def fine_tuning(case: Case, python: Path) -> list[str]:
    """Whole runs of both sides, in turn."""
    runs: dict[str, list[dict[str, Any]]] = {"theirs": [], "ours": []}
    on_gpu = ("--device", "cuda")
    for seed in SEEDS:
        program = [python, ROOT / "benchmarks" / "peers" / "transformers_trainer.py"]
        runs["theirs"].append(run(program, theirs_of(case, seed, "--bf16", *on_gpu), ()))
        recipe = {**case.same, **LIKE_THEIRS, "seed": seed}
        runs["ours"].append(
            run([sys.executable, "-m", "benchmarks.finetune_once"], our_options(case, recipe, *on_gpu), ())
        )
    rows = [
        [name, spread([one["seconds"] for one in own], 1), spread([mean(one["right"]) for one in own], 4)]
        for name, own in runs.items()
    ]
    ratios = [their["seconds"] / our["seconds"] for their, our in zip(runs["theirs"], runs["ours"], strict=True)]
    told = f"Whole runs, evaluations included: {spread(ratios, 2)} times as fast; test accuracy, ours less theirs: "
    told += f"{difference(runs['ours'], runs['theirs'])}."
    return [
        f"## Fine-tuning, {case.rows:,} rows, 2 epochs, batch 32",
        table(["run", "seconds", "test accuracy"], rows),
        told,
    ]


if __name__ == "__main__":
    main()
