"""From a base model and a labelled file to a tuned model folder. Called by the command line and the job worker."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from model.attention import MultiHeadAttention
from model.config import Pooler, TransformerConfig
from model.dropout import Dropout
from model.folders import load_tokenizer
from model.heads import TextModel
from model.lora import LoraConfig, make_trainable, save_adapter, sha256_of_body, take_adapter
from model.tags import mark_spans
from model.tokenizer import Tokenizer
from model.weights import load_model, save_model
from training.config import ClassWeights, Recipe
from training.data import DataTask, Examples, check_training, check_validation, load_examples, split_validation
from training.evaluation.files import judge, write_evaluation
from training.events import Evaluated, Finishing, Noted, Started, TrainingEvent
from training.faults import DataFaults, Fault, faults_named
from training.few_shot import few_shot_objective
from training.labelled import Rows, encode_classes, encode_label_sets, encode_scores, encode_tags
from training.objectives import ChooseLabels, Classify, Regress, TagWords, balanced_weights
from training.oddities import cut_warning, find_leaks, has_one_score, leak_warning, odd_rows, one_score_warning
from training.parallel import ALONE, World
from training.results import refuse_other_run, write_folder, write_manifest
from training.sharding import Placement
from training.temperature import temperature_of
from training.trainer import Objective, Trainer

MAX_UNKNOWN_RATE = 0.05  # of a file's tokens, before a warning
VOCABULARY_SAMPLE = 2_000  # rows looked at


@dataclass(frozen=True)
class Data:
    """Checked training and validation rows, and the labels both share (none for regression)."""

    train: Examples
    validation: Examples
    labels: tuple[str, ...]
    warnings: tuple[Fault, ...] = ()  # what is odd about the rows, for the user to know

    @property
    def task(self) -> DataTask:
        return self.train.task


def load_data(
    training_file: Path | Dataset, validation_file: Path | Dataset | None, recipe: Recipe, task: DataTask | None = None
) -> Data:
    """Reads and checks both files; without a validation file a part is held out. The columns tell the task, unless it
    is given. Raises DataFaults."""
    examples = load_examples(training_file, task)
    labels = check_training(examples)
    warnings = odd_rows(examples)
    if validation_file is None:
        train, validation = split_validation(examples, recipe.validation_share, recipe.seed)
    else:
        train = examples
        with faults_named("validation file"):
            validation = load_examples(validation_file, task)
            if validation.task != train.task:
                message = f"its rows are for {validation.task!r}, the training rows for {train.task!r}"
                raise DataFaults([Fault(0, message)])
            check_validation(validation, labels)
        warnings += [Fault(0, f"validation file: {fault}") for fault in validation.warnings]
    warnings += leak_warning(train, validation, find_leaks(train, validation)) + one_score_warning(validation)
    return Data(train, validation, labels, tuple(warnings))


def finetune(
    base: Path,
    data: Data,
    recipe: Recipe,
    output: Path,
    device: torch.device,
    base_name: str | None = None,
    other_bases: Mapping[str, Path] = MappingProxyType({}),
    world: World = ALONE,
    interrupted: Callable[[], bool] = lambda: False,
    snapshots: bool = False,
    saved: Callable[[], None] = lambda: None,
    replaces: bool = True,
) -> Iterator[TrainingEvent]:
    """Tunes the model folder `base` and leaves `model` in `output`, whole or as an adapter, with its evaluation; the
    manifest comes last. With `snapshots` each evaluation leaves the model of its step in `snapshot_folder`, before its
    event. `saved` is called when a checkpoint of this run is whole. Raises ValueError when `output` holds another run,
    unless this one `replaces` it.

    An interrupted run (Interrupted, when `interrupted` says so, or a kill) continues from its last checkpoint when
    called again with the same arguments. When the base's vocabulary lacks much of the text, the first event says so and
    names the best of `other_bases`.
    """
    metric = metric_of(recipe.metric, data)
    if world.shards and recipe.method == "few_shot":
        raise ValueError(
            "method is 'few_shot', which reads the whole model outside of training; choose 'fine_tune', or leave out "
            "--shard"
        )
    base_model, tokenizer = load_model(base)
    if warning := vocabulary_warning(data.train, base_name or base.name, tokenizer, other_bases):
        yield Noted(warning)
    recipe = replace(recipe, max_length=min(recipe.max_length, base_model.config.max_positions))
    torch.manual_seed(recipe.seed)
    model = with_head(base_model, head_config(base_model.config, data.task, data.labels, recipe))
    base_sha256 = sha256_of_body(base_model)
    del base_model  # its memory is wanted
    lora = LoraConfig(recipe.lora_rank, recipe.lora_alpha)
    if recipe.adapter == "lora":
        make_trainable(model, lora)
    freeze(model, recipe.frozen_layers)
    if recipe.dropout is not None:
        set_dropout(model, recipe.dropout)
    placement = Placement(model, device, world)
    train = encode(data.train, tokenizer, data.labels, recipe.max_length)
    validation = encode(data.validation, tokenizer, data.labels, recipe.max_length)
    description: dict[str, Any] = {"recipe": asdict(recipe), "task": data.task, "labels": data.labels}
    description |= {"train": data.train.sha256, "validation": data.validation.sha256, "base": base.name}
    description["base_sha256"] = base_sha256
    run_key = run_key_of(description)
    if world.leads and not replaces:
        refuse_other_run(output, run_key)
    if recipe.method == "few_shot" and data.task == "classification":
        weights = class_weights(recipe.class_weights, train.targets, data.labels)
        objective: Objective = few_shot_objective(model, tokenizer, train, validation, recipe, weights)
    else:
        objective = make_objective(data.task, model, train, validation, recipe)
    optimisation = recipe.optimisation_for(metric)
    trainer = Trainer(objective, optimisation, output / "checkpoint", run_key, world, placement, interrupted, saved)

    def save(tuned: TextModel, folder: Path) -> None:
        if recipe.adapter == "lora":
            save_adapter(take_adapter(tuned, lora), base_name or base.name, folder)
        else:
            save_model(tuned, tokenizer, folder)

    for event in trainer.run():
        if snapshots and isinstance(event, Evaluated):
            with objective.served(temperature_of(event.evaluation.to_dict())):
                if (tuned := placement.whole_model()) is not None:
                    write_folder(snapshot_folder(output, event.step), partial(save, tuned))
        yield event
        if isinstance(event, Started):
            for odd in cut_warning(data.train, train.encodings, recipe.max_length, base_name or base.name):
                yield Noted(str(odd))
    temperature = temperature_of(trainer.position.best_scores)
    with objective.served(temperature):
        yield Finishing(f"Judging the model by {len(data.validation.rows):,} held-out rows")
        judged = None
        if world.leads or world.shards:
            judged = placement.within(lambda: judge(model, tokenizer, data.validation, recipe.max_length))
        tuned = placement.whole_model()
        if tuned is None or judged is None:
            return
        yield Finishing(report_work(data))
        dynamics = objective.dynamics if isinstance(objective, Classify) else None
        write_evaluation(judged, data, dynamics, trainer.position.history, output, temperature)
        yield Finishing("Writing the model")
        write_folder(output / "model", partial(save, tuned))
    write_manifest(output, trainer, description)


def report_work(data: Data) -> str:
    """What the report needs of the training rows, for who waits for it."""
    work = "Fitting simple models for comparison"
    if data.task == "classification":
        work += ", looking for labels that are likely wrong"
    return f"{work}: {len(data.train.rows):,} training rows"


def snapshot_folder(output: Path, step: int) -> Path:
    return output / "snapshots" / f"step-{step}"


METRICS: dict[DataTask, tuple[str, ...]] = {  # what a run of each task may be judged by; the first is the usual one
    "classification": ("accuracy", "macro_f1", "loss"),
    "multi_label": ("micro_f1", "macro_f1", "accuracy", "loss"),
    "regression": ("r2", "correlation", "mean_absolute_error", "loss"),
    "tagging": ("macro_f1", "accuracy", "span_f1", "loss"),
}
USUAL_METRIC: dict[DataTask, str] = {task: metrics[0] for task, metrics in METRICS.items()}
OF_VARIED_SCORES = ("r2", "correlation")  # have no meaning when the held-out rows all have one score


def metric_of(wanted: str | None, data: Data) -> str:
    """What judges a run: what the user wants, else the task's usual one, or the first that these rows allow. Raises
    ValueError for one that this task does not have, or these rows do not allow."""
    known = METRICS[data.task]
    if wanted not in (None, *known):
        raise ValueError(f"metric is {wanted!r}; for {data.task} choose one of {list(known)}")
    possible, why = list(known), ""
    if data.task == "regression" and has_one_score(data.validation):
        possible = [name for name in known if name not in OF_VARIED_SCORES]
        why = "the held-out rows all have one score"
    if data.task == "tagging" and not mark_spans(data.labels):
        possible.remove("span_f1")
        why = "no tag of the data begins with 'B-' or 'I-'"
    if wanted not in (None, *possible):
        raise ValueError(f"metric is {wanted!r}, but {why}; choose one of {possible}")
    return wanted or possible[0]


def make_objective(
    task: DataTask, model: TextModel, train: Rows[Any], validation: Rows[Any], recipe: Recipe
) -> Objective:
    """What this task learns from encoded rows by plain fine-tuning."""
    if task == "classification":
        weights = class_weights(recipe.class_weights, train.targets, model.config.labels)
        return Classify(model, train, validation, recipe.batch_size, recipe.seed, recipe.num_epochs, weights)
    if recipe.method != "fine_tune":
        raise ValueError(f"method is {recipe.method!r}, which is for classification; this is {task}")
    if recipe.class_weights != "none":
        raise ValueError(f"class_weights is {recipe.class_weights!r}, which is for classification; this is {task}")
    others = {"multi_label": ChooseLabels, "regression": Regress, "tagging": TagWords}
    objective: Objective = others[task](model, train, validation, recipe.batch_size, recipe.seed)
    return objective


def class_weights(wanted: ClassWeights, targets: Sequence[int], labels: Sequence[str]) -> Tensor | None:
    """Weights [C] of the classes; a label without one in a mapping has 1. Raises ValueError for a label not there."""
    if wanted == "none":
        return None
    if wanted == "balanced":
        return balanced_weights(targets, len(labels))
    given = dict(wanted)
    if strangers := sorted(given.keys() - set(labels)):
        raise ValueError(f"class_weights names {strangers[:5]}; the labels of the data are {list(labels)[:20]}")
    return torch.tensor([given.get(label, 1.0) for label in labels])


def freeze(model: TextModel, num_layers: int) -> None:
    """The embeddings and so many layers from the bottom keep their weights. Raises ValueError for more than there
    are."""
    if num_layers > model.config.num_layers:
        raise ValueError(f"frozen_layers is {num_layers}; this base has {model.config.num_layers} layers")
    if num_layers:
        model.body.embeddings.requires_grad_(False)
        for layer in model.body.layers[:num_layers]:
            layer.requires_grad_(False)


def set_dropout(model: TextModel, p: float) -> None:
    """In training all layers and the head drop with this probability; the config keeps what the base was made with."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = p
        elif isinstance(module, MultiHeadAttention):
            module.dropout = p


def run_key_of(description: Mapping[str, Any]) -> str:
    """Tells this run from every other: a checkpoint is taken up only by the run that wrote it."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def with_head(base: TextModel, config: TransformerConfig) -> TextModel:
    """The base's stack (and pooler, when it has the one wanted) under the new head of this config."""
    model = TextModel(config)
    model.stack.load_state_dict(base.stack.state_dict())
    if model.pooler is not None and base.pooler is not None and config.pooler == base.config.pooler:
        model.pooler.load_state_dict(base.pooler.state_dict())
    return model


def head_config(base: TransformerConfig, task: DataTask, labels: tuple[str, ...], recipe: Recipe) -> TransformerConfig:
    """By default the head that Hugging Face's model of the same layout and task has, so that it can be exported: the
    last token of a decoder, the first token and a pooler of an encoder; no pooler for tags."""
    assert task != "language_model"  # refused by check_training
    if task == "tagging":
        return base.with_task(task, labels, pooler="none")
    if base.architecture == "decoder":
        return base.with_task(task, labels, recipe.pooling or "last", recipe.pooler or "none")
    pooling = recipe.pooling or "first"
    pooler = recipe.pooler
    if pooler is None and pooling == "first":
        usual: Pooler = "relu" if base.num_segments == 0 else "tanh"  # DistilBERT has no segments, BERT and RoBERTa do
        pooler = base.pooler if base.pooler != "none" else usual
    return base.with_task(task, labels, pooling, pooler or "none")


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


def encode(examples: Examples, tokenizer: Tokenizer, labels: tuple[str, ...], max_length: int) -> Rows[Any]:
    """Rows as the model reads them, with what is learned of each."""
    if examples.task == "regression":
        return encode_scores(examples, tokenizer, max_length)
    if examples.task == "multi_label":
        return encode_label_sets(examples, tokenizer, labels, max_length)
    if examples.task == "tagging":
        return encode_tags(examples, tokenizer, labels, max_length)
    return encode_classes(examples, tokenizer, labels, max_length)
