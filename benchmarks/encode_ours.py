"""The same as `peers/encode.py` by our engine's own runner. Called by `bench_inference.py`."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from model.batch import length_sorted_batches
from model.lora import AdapterBank
from model.weights import load_model
from service.engine.cores import Cores
from service.engine.runner import LoadedModel
from service.formats import convert


def loaded_model(folder: Path, dtype: str) -> LoadedModel:
    """As the registry serves it."""
    model, tokenizer = load_model(folder)
    convert(model, tokenizer, dtype)
    return LoadedModel("m", "m:1", model.config, AdapterBank(model), tokenizer, dtype, "m:1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list")
    parser.add_argument("--batch-tokens", type=int, default=2_048)
    given = parser.parse_args()
    loaded = loaded_model(given.base, given.dtype)
    encodings = loaded.tokenizer.encode(json.loads(given.texts.read_text(encoding="utf-8")), 512)
    lengths = [len(encoding.ids) for encoding in encodings]
    groups = length_sorted_batches(lengths, given.batch_tokens, max_rows=10_000)
    batches = [[encodings[index] for index in group] for group in groups]
    run = Cores().run
    run([loaded] * len(batches[0]), "embed", batches[0])
    print(json.dumps({"tokens": sum(lengths), "version": f"torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        if line.startswith("pass"):
            began = time.perf_counter()
            for batch in batches:
                run([loaded] * len(batch), "embed", batch)
            print(time.perf_counter() - began, flush=True)
        else:
            vectors = np.empty((len(encodings), loaded.config.width), dtype=np.float32)
            for group, batch in zip(groups, batches, strict=True):
                vectors[group] = np.stack(run([loaded] * len(batch), "embed", batch))
            np.save(line.split(maxsplit=1)[1].strip(), vectors)
            print("saved", flush=True)


if __name__ == "__main__":
    main()
