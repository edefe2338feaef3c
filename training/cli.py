"""The training commands of `vitrine`: fetch data, fine-tune in this process with a progress bar."""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from model.weights import is_model_folder
from training.catalogue import DATASETS, fetch_minilm, write_splits
from training.config import Recipe
from training.finetune import finetune, load_data
from training.trainer import Evaluated, Progress, Started, TrainingEvent


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", home: Path) -> None:
    """Adds `data` and `finetune` to the command line."""
    data = commands.add_parser("data", help="write a catalogue data set as JSONL files")
    data.add_argument("name", choices=sorted(DATASETS))
    data.add_argument("--output", type=Path, default=Path(), help="folder for the files (default: here)")
    data.set_defaults(run=lambda arguments: run_data(arguments, home))

    tune = commands.add_parser("finetune", help="fine-tune a base model on a labelled file, in this process")
    tune.add_argument("--data", type=Path, required=True, help="training rows, JSONL or CSV")
    tune.add_argument("--validation", type=Path, help="validation rows; a tenth of the data when absent")
    tune.add_argument("--base", default="minilm-l6", help="'minilm-l6' or a model folder (default: minilm-l6)")
    tune.add_argument("--output", type=Path, required=True, help="folder for the tuned model")
    tune.add_argument("--epochs", type=int, default=Recipe.num_epochs)
    tune.add_argument("--batch-size", type=int, default=Recipe.batch_size)
    tune.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    tune.add_argument("--max-length", type=int, default=Recipe.max_length)
    tune.add_argument("--seed", type=int, default=Recipe.seed)
    tune.set_defaults(run=lambda arguments: run_finetune(arguments, home))


def run_data(arguments: argparse.Namespace, home: Path) -> None:
    for path in write_splits(arguments.name, home / "cache", arguments.output):
        print(path)


def run_finetune(arguments: argparse.Namespace, home: Path) -> None:
    recipe = Recipe(
        num_epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        max_length=arguments.max_length,
        seed=arguments.seed,
    )
    base = fetch_minilm(home / "cache") if arguments.base == "minilm-l6" else Path(arguments.base)
    if not is_model_folder(base):
        raise ValueError(f"base {arguments.base!r} is neither 'minilm-l6' nor a folder with a model")
    data = load_data(arguments.data, arguments.validation, recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tqdm(unit="step") as bar:
        for event in finetune(base, data, recipe, arguments.output, device):
            show(event, bar)
    print(f"tuned model: {arguments.output / 'model'}")


def show(event: TrainingEvent, bar: "tqdm[None]") -> None:
    """One event on the terminal."""
    if isinstance(event, Started):
        bar.total = event.total_steps
        bar.write(f"{event.num_train} training rows, {event.num_validation} validation rows, {event.dtype}")
        if event.step:
            bar.write(f"continuing from step {event.step}")
        bar.update(event.step - bar.n)
    elif isinstance(event, Progress):
        bar.set_postfix_str(f"loss {event.train_loss:.3f}, {event.tokens_per_second:,.0f} tokens/s")
        bar.update(event.step - bar.n)
    elif isinstance(event, Evaluated):
        scores = event.evaluation
        bar.write(
            f"step {event.step}: accuracy {scores.accuracy:.3f}, macro F1 {scores.macro_f1:.3f}, "
            f"loss {scores.loss:.3f} (majority baseline {scores.majority_baseline:.3f})"
        )
