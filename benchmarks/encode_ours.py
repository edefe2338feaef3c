"""The same as `peers/encode.py` by our own engine. Called by `bench_inference.py` and `bench_http.py`."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.in_process import in_process
from model.heads import TextModel
from model.lora import AdapterBank
from model.tokenizer import Tokenizer
from model.weights import load_model
from service.engine.programs import Program
from service.engine.runner import LoadedModel
from service.formats import convert


def loaded_model(folder: Path, dtype: str) -> LoadedModel:
    return served(*load_model(folder), dtype)


def served(model: TextModel, tokenizer: Tokenizer, dtype: str) -> LoadedModel:
    """As the registry serves it."""
    convert(model, tokenizer, dtype)
    program = Program.of(model, next(model.parameters()).device)
    return LoadedModel("m", "m:1", model.config, AdapterBank(model), tokenizer, dtype, "m:1", recorded=program)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="a JSON list")
    parser.add_argument("--batch-tokens", type=int, default=2_048)
    given = parser.parse_args()
    loaded = loaded_model(given.base, given.dtype)
    encodings = loaded.tokenizer.encode(json.loads(given.texts.read_text(encoding="utf-8")), 512)
    order = sorted(range(len(encodings)), key=lambda index: -len(encodings[index].ids))
    models, by_length = [loaded] * len(order), [encodings[index] for index in order]
    tokens = sum(len(encoding.ids) for encoding in encodings)
    with in_process(given.batch_tokens) as engine:
        engine.run(models[:64], "embed", by_length[:64])
        print(json.dumps({"tokens": tokens, "version": f"torch {torch.__version__}"}), flush=True)
        for line in sys.stdin:
            if line.startswith("pass"):
                began = time.perf_counter()
                engine.run(models, "embed", by_length)
                print(time.perf_counter() - began, flush=True)
            else:
                vectors = np.empty((len(encodings), loaded.config.width), dtype=np.float32)
                vectors[order] = np.stack(engine.run(models, "embed", by_length))
                np.save(line.split(maxsplit=1)[1].strip(), vectors)
                print("saved", flush=True)


if __name__ == "__main__":
    main()
