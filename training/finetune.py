"""From a base model and a labelled file to a tuned model folder. Called by the command line and the job worker."""

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from model.config import Pooler, TransformerConfig
from model.heads import TextModel
from model.lora import LoraConfig, make_trainable, save_adapter, take_adapter
from model.tokenizer import Tokenizer
from model.weights import load_model, load_tokenizer, save_model
from training.config import Recipe
from training.data import Examples, check_training, check_validation, load_examples, split_validation
from training.objectives import Classify, Rows
from training.trainer import Evaluated, Noted, Trainer, TrainingEvent

MANIFEST_FILE = "manifest.json"
MAX_UNKNOWN_RATE = 0.05  # of a file's tokens, before a warning
VOCABULARY_SAMPLE = 2_000  # rows looked at


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


def finetune(
    base: Path,
    data: Data,
    recipe: Recipe,
    output: Path,
    device: torch.device,
    base_name: str | None = None,
    other_bases: Mapping[str, Path] = MappingProxyType({}),
) -> Iterator[TrainingEvent]:
    """Tunes the model folder `base` and leaves `model` in `output`, whole or as an adapter; the manifest comes last.

    An interrupted run continues from its last checkpoint when called again with the same arguments. When the base's
    vocabulary lacks much of the text, the first event says so and names the best of `other_bases`.
    """
    base_model, tokenizer = load_model(base)
    if warning := vocabulary_warning(data.train, base_name or base.name, tokenizer, other_bases):
        yield Noted(warning)
    recipe = replace(recipe, max_length=min(recipe.max_length, base_model.config.max_positions))
    torch.manual_seed(recipe.seed)
    model = with_classifier(base_model, data.labels, recipe)
    lora = LoraConfig(recipe.lora_rank, recipe.lora_alpha)
    if recipe.adapter == "lora":
        make_trainable(model, lora)
    model.to(device)
    train = encode(data.train, tokenizer, data.labels, recipe.max_length)
    validation = encode(data.validation, tokenizer, data.labels, recipe.max_length)
    description: dict[str, Any] = {"recipe": asdict(recipe), "labels": data.labels}
    description |= {"train": data.train.sha256, "validation": data.validation.sha256, "base": base.name}
    run_key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
    objective = Classify(model, train, validation, recipe.batch_size, recipe.seed)
    trainer = Trainer(objective, recipe.optimisation, output / "checkpoint", run_key)
    last: Evaluated | None = None
    started = time.time()
    for event in trainer.run():
        last = event if isinstance(event, Evaluated) else last
        yield event
    assert last is not None
    if recipe.adapter == "lora":
        save_adapter(take_adapter(model, lora), base_name or base.name, output / "model")
    else:
        save_model(model.eval(), tokenizer, output / "model")
    write_manifest(output, trainer, last, description, started)


def with_classifier(base: TextModel, labels: tuple[str, ...], recipe: Recipe) -> TextModel:
    """The base's stack (and pooler, when it has one) under a new classifier for these labels."""
    config = classifier_config(base.config, labels, recipe)
    model = TextModel(config)
    model.stack.load_state_dict(base.stack.state_dict())
    if model.pooler is not None and base.pooler is not None and config.pooler == base.config.pooler:
        model.pooler.load_state_dict(base.pooler.state_dict())
    return model


def classifier_config(base: TransformerConfig, labels: tuple[str, ...], recipe: Recipe) -> TransformerConfig:
    """By default the head that Hugging Face's classifier of the same layout has, so that it can be exported: the last
    token of a decoder, the first token and a pooler of an encoder."""
    if base.architecture == "decoder":
        return base.with_task("classification", labels, recipe.pooling or "last", recipe.pooler or "none")
    pooling = recipe.pooling or "first"
    pooler = recipe.pooler
    if pooler is None and pooling == "first":
        usual: Pooler = "relu" if base.num_segments == 0 else "tanh"  # DistilBERT has no segments, BERT and RoBERTa do
        pooler = base.pooler if base.pooler != "none" else usual
    return base.with_task("classification", labels, pooling, pooler or "none")


def vocabulary_warning(
    examples: Examples, base_name: str, tokenizer: Tokenizer, other_bases: Mapping[str, Path]
) -> str | None:
    """A warning when more than 5% of the text's tokens are unknown to the base, with a base that knows more."""
    texts = [text if isinstance(text, str) else " ".join(text) for text in examples.inputs[:VOCABULARY_SAMPLE]]
    rate = tokenizer.unknown_rate(texts)
    if rate <= MAX_UNKNOWN_RATE:
        return None
    others = {name: load_tokenizer(folder).unknown_rate(texts) for name, folder in other_bases.items()}
    better = min((name for name in others if others[name] < rate / 2), key=others.__getitem__, default=None)
    advice = "take a base whose vocabulary has this language (for Chinese: vitrine pretrain chinese-encoder)"
    if better is not None:
        advice = f"base {better!r} leaves {others[better]:.1%} unknown"
    return f"{rate:.1%} of the tokens are unknown to base {base_name!r}, more than {MAX_UNKNOWN_RATE:.0%}; {advice}"


def encode(examples: Examples, tokenizer: Tokenizer, labels: tuple[str, ...], max_length: int) -> Rows:
    """Rows as the model reads them, their labels as class numbers."""
    number = {label: index for index, label in enumerate(labels)}
    return Rows(tokenizer.encode(examples.inputs, max_length), [number[label] for label in examples.labels])


def write_manifest(
    output: Path, trainer: Trainer, last: Evaluated, description: dict[str, Any], started: float, **facts: object
) -> None:
    """What was trained, on what, how and how well: the last file of a run, so that it stands for success."""
    manifest = description | {
        "metrics": last.evaluation.to_dict(),
        "steps": last.step,
        "seconds": time.time() - started,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "bfloat16": trainer.bfloat16,
    }
    write_json(output / MANIFEST_FILE, manifest | facts)


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
