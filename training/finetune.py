"""From a base model and a labelled file to a tuned model folder. Called by the command line and the job worker."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model.heads import TextModel
from model.tokenizer import Tokenizer
from model.weights import load_model, save_model
from training.config import Recipe
from training.data import Examples, check_training, check_validation, load_examples, split_validation
from training.trainer import Evaluated, Rows, Trainer, TrainingEvent

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Data:
    """Checked training and validation rows, and the labels both share."""

    train: Examples
    validation: Examples
    labels: tuple[str, ...]


def load_data(training_file: Path, validation_file: Path | None, recipe: Recipe) -> Data:
    """Reads and checks both files; without a validation file a stratified part is held out. Raises DataFaults."""
    examples = load_examples(training_file)
    labels = check_training(examples)
    if validation_file is None:
        train, validation = split_validation(examples, recipe.validation_share, recipe.seed)
    else:
        train, validation = examples, load_examples(validation_file)
        check_validation(validation, labels)
    return Data(train, validation, labels)


def finetune(base: Path, data: Data, recipe: Recipe, output: Path, device: torch.device) -> Iterator[TrainingEvent]:
    """Tunes the model folder `base` and leaves a tuned folder in `output`; the manifest is written last.

    An interrupted run continues from its last checkpoint when called again with the same arguments.
    """
    base_model, tokenizer = load_model(base)
    recipe = replace(recipe, max_length=min(recipe.max_length, base_model.config.max_positions))
    torch.manual_seed(recipe.seed)
    model = TextModel(base_model.config.with_labels(data.labels))
    model.encoder.load_state_dict(base_model.encoder.state_dict())
    model.to(device)
    train = encode(data.train, tokenizer, data.labels, recipe.max_length)
    validation = encode(data.validation, tokenizer, data.labels, recipe.max_length)
    description = {"recipe": asdict(recipe), "labels": data.labels}
    description |= {"train": data.train.sha256, "validation": data.validation.sha256, "base": base.name}
    run_key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    trainer = Trainer(model, recipe, train, validation, output / "checkpoint", run_key)
    last: Evaluated | None = None
    started = time.time()
    for event in trainer.run():
        last = event if isinstance(event, Evaluated) else last
        yield event
    assert last is not None
    save_model(model.eval(), tokenizer, output / "model")
    manifest = description | {
        "metrics": last.evaluation.to_dict(),
        "steps": last.step,
        "seconds": time.time() - started,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "bfloat16": trainer.bfloat16,
    }
    write_json(output / MANIFEST_FILE, manifest)


def encode(examples: Examples, tokenizer: Tokenizer, labels: tuple[str, ...], max_length: int) -> Rows:
    """Rows as the model reads them, their labels as class numbers."""
    number = {label: index for index, label in enumerate(labels)}
    return Rows(tokenizer.encode(examples.inputs, max_length), [number[label] for label in examples.labels])


def write_json(path: Path, fields: object) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(fields, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_manifest(output: Path) -> dict[str, Any]:
    """The manifest of a finished run."""
    fields: dict[str, Any] = json.loads((output / MANIFEST_FILE).read_text(encoding="utf-8"))
    return fields
