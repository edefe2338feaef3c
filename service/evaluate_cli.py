"""The `vitrine evaluate` command: how good a tuned model is on labelled rows, and which rows to look at. Added by
`command.py`."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.folders import is_adapter_folder, is_model_folder, load_adapter_config
from model.heads import TextModel
from model.lora import load_adapter, merge, sha256_of_body
from model.tokenizer import Tokenizer
from model.weights import load_model
from service.bases import find_base
from service.errors import NotFound
from service.model_store import ModelStore
from service.placement import gpu_count, serving_device
from service.report.evaluation.page import evaluation_page
from service.report.evaluation.picture import evaluation_png
from service.report.evaluation.words import summary
from service.report.output import check_output, write_form
from service.settings import Settings
from training.data import load_examples
from training.evaluation import TASKS, Evidence, Names, check_labels, open_task, report_on
from training.evaluation.files import PREDICTIONS_FILE, REPORT_FILE, json_bytes, predictions_csv
from training.faults import faults_named
from training.tables import SOURCE_HELP, find_source

FORMATS = (".html", ".json", ".png", ".csv")


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", settings: Settings) -> None:
    """Adds `evaluate` to the command line."""
    evaluate = commands.add_parser("evaluate", help="figures of a tuned model on labelled rows, beside simple models")
    evaluate.add_argument("--model", required=True, help="a model's or adapter's folder, or an id of the store")
    evaluate.add_argument(
        "--data", help=f"held-out {SOURCE_HELP}; without it what a run's own folder knows of its held-out rows is shown"
    )
    evaluate.add_argument(
        "--training-data", help="the rows it was trained on, named the same way: for baselines and doubtful labels"
    )
    evaluate.add_argument("--max-length", type=int, help="tokens read of a row (default: all the model can)")
    evaluate.add_argument(
        "--output", type=Path, help="file to write: .html, .json or .png, or .csv for a line a prediction"
    )
    evaluate.set_defaults(run=lambda arguments: run_evaluate(arguments, settings))


def run_evaluate(arguments: argparse.Namespace, settings: Settings) -> None:
    check_output(arguments.output, FORMATS)
    evaluated = _of_run(Path(arguments.model)) if arguments.data is None else _measure(arguments, settings)
    print(summary(evaluated.report))
    if arguments.output is not None:
        forms = {
            ".html": lambda: evaluation_page(evaluated.report).html.encode(),
            ".json": lambda: json_bytes(evaluated.report),
            ".png": lambda: evaluation_png(evaluated.report),
            ".csv": lambda: evaluated.predictions,
        }
        write_form(arguments.output, forms)
        print(arguments.output)


@dataclass(frozen=True)
class Evaluated:
    report: dict[str, Any]
    predictions: bytes  # CSV


def _of_run(folder: Path) -> Evaluated:
    """What `finetune` left beside its model, with the curves and the map of the training rows."""
    if not (folder / REPORT_FILE).is_file():
        raise ValueError(f"{folder} has no {REPORT_FILE}, as a training run leaves it; name labelled rows with --data")
    report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return Evaluated(report, (folder / PREDICTIONS_FILE).read_bytes())


def _measure(arguments: argparse.Namespace, settings: Settings) -> Evaluated:
    model, tokenizer = load_named(arguments.model, settings)
    if model.config.task not in TASKS:
        raise ValueError(f"{arguments.model!r} is for {model.config.task!r}; name a model for {', '.join(TASKS)}")
    held_out = load_examples(find_source(arguments.data), model.config.task)
    training = None
    if arguments.training_data:
        with faults_named("training data"):
            training = load_examples(find_source(arguments.training_data), model.config.task)
            check_labels(training, model.config.labels)
    task = open_task(model, tokenizer, held_out, arguments.max_length)
    prediction = task.predict(model.to(serving_device(settings.device, 1, gpu_count())))
    names = Names(arguments.model, Path(arguments.data).name)
    report = report_on(task, prediction, held_out, Evidence(training), names)
    return Evaluated(report, predictions_csv(task, prediction, held_out).encode())


def load_named(given: str, settings: Settings) -> tuple[TextModel, Tokenizer]:
    """A model by its folder, the folder of its run, or its id in the store; an adapter is merged into its base."""
    folder = _find_folder(given, settings)
    if not is_adapter_folder(folder):
        return load_model(folder)
    base_id, _ = load_adapter_config(folder)
    try:
        base_folder = find_base(base_id, settings)
    except ValueError as error:
        remedy = f"vitrine models import FOLDER --name {base_id}"
        raise ValueError(
            f"{given!r} is an adapter, and its base is not here: {error}; for one in a folder: {remedy}"
        ) from error
    base, tokenizer = load_model(base_folder)
    adapter = load_adapter(folder)
    if adapter.body_sha256 not in (None, sha256_of_body(base)):
        raise ValueError(
            f"{given!r} was trained over another {base_id!r} than the one here; tune it again over this one"
        )
    return merge(base, adapter), tokenizer


def _find_folder(given: str, settings: Settings) -> Path:
    for folder in (Path(given), Path(given) / "model"):
        if is_model_folder(folder) or is_adapter_folder(folder):
            return folder
    try:
        return ModelStore.of(settings).find(given).folder
    except NotFound as error:
        raise ValueError(f"{error}; or name a model folder") from None
