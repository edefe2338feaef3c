"""One fine-tuning run of ours in a process of its own, with the clock and the memory of
`peers/transformers_trainer.py`: one line of JSON. Called by `bench_finetune.py`."""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch

from model.capability import has_bfloat16
from model.weights import load_model
from training.choose import choose_recipe
from training.config import Recipe
from training.data import load_examples
from training.evaluate import predict
from training.events import Evaluated, Progress
from training.finetune import encode, finetune, load_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("base", "train", "validation", "test"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--recipe", type=json.loads, required=True, help="what is set by hand; the rest is chosen")
    parser.add_argument("--stop", type=int, default=0, help="stop after so many steps: for a rate")
    parser.add_argument("--device", type=torch.device, default="cpu")
    given = parser.parse_args()
    data = load_data(given.train, given.validation, Recipe())
    recipe = choose_recipe(given.recipe, data, given.base).recipe
    progress, evaluations = [], []
    with tempfile.TemporaryDirectory() as output:
        began = peak = 0.0
        for event in finetune(given.base, data, recipe, Path(output), given.device):
            began = began or time.perf_counter()
            seconds = time.perf_counter() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if isinstance(event, Progress):
                progress.append([event.step, seconds])
                if given.stop and event.step >= given.stop:
                    print(json.dumps({"progress": progress, "peak_bytes": peak}))
                    return
            elif isinstance(event, Evaluated):
                evaluations.append([event.step, seconds, event.evaluation.figures()["accuracy"]])
        afterwards = time.perf_counter() - began - evaluations[-1][1]
        model, tokenizer = load_model(Path(output) / "model")
    rows = encode(load_examples(given.test), tokenizer, data.labels, recipe.max_length)
    bfloat16 = has_bfloat16(given.device)
    with torch.inference_mode(), torch.autocast(given.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        likely = predict(model.to(given.device), rows.encodings).softmax(dim=-1).max(dim=-1)
    result = {
        "seconds": evaluations[-1][1],
        "seconds_afterwards": afterwards,
        "progress": progress,
        "evaluations": evaluations,
        "right": (likely.indices == torch.tensor(rows.targets)).int().tolist(),
        "confidence": likely.values.tolist(),
        "peak_bytes": peak,
        "recipe": {name: value for name, value in recipe.__dict__.items() if value is not None},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
