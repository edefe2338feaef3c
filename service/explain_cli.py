"""The `vitrine explain benchmark` command: which attribution tells what a model really uses. Added by `command.py`."""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from model.explain.comparison import Judged, compare
from model.explain.faithfulness import Trial
from model.explain.masking import replacement_id
from model.explain.methods import all_methods
from model.explain.text_input import EXPLAINED_TASKS
from model.heads import TextModel
from model.tokenizer import Encoding, Tokenizer
from service.evaluate_cli import load_named
from service.placement import gpu_count, serving_device
from service.report.attributions import note, picture, table
from service.report.output import check_output, write_form
from service.settings import Settings
from training.data import Examples, load_examples
from training.evaluation.attributions import attribution_report
from training.tables import SOURCE_HELP, find_source

FORMATS = (".md", ".json", ".png")
DEFAULT_ROWS = 200


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", settings: Settings) -> None:
    """Adds `explain` and its one action to the command line."""
    names = tuple(all_methods(replacement=0))
    explain = commands.add_parser("explain", help="how faithful explanations of a model are").add_subparsers(
        dest="action", required=True
    )
    benchmark = explain.add_parser("benchmark", help="every attribution over a data set, beside chance, as a table")
    benchmark.add_argument("--model", required=True, help="a model's or adapter's folder, or an id of the store")
    benchmark.add_argument("--data", required=True, help=f"{SOURCE_HELP}; labels are not looked at")
    benchmark.add_argument(
        "--rows", type=int, default=DEFAULT_ROWS, help=f"drawn from the data (default: {DEFAULT_ROWS})"
    )
    benchmark.add_argument("--seed", type=int, default=0, help="of the rows, the random rankings and the method random")
    benchmark.add_argument(
        "--methods", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {', '.join(names)}"
    )
    benchmark.add_argument(
        "--num-random", type=int, default=Trial.num_random, help="random rankings a text (default: %(default)s)"
    )
    benchmark.add_argument(
        "--bounds",
        type=int,
        default=0,
        metavar="WIDTH",
        help="also normalise, between bounds found by a beam search of this width: some 20 x T passes a text at 1",
    )
    benchmark.add_argument("--max-length", type=int, help="tokens read of a row (default: all the model can)")
    benchmark.add_argument("--output", type=Path, help="file to write: .md, .json or .png")
    benchmark.set_defaults(run=lambda arguments: run_benchmark(arguments, settings))


def run_benchmark(arguments: argparse.Namespace, settings: Settings) -> None:
    check_output(arguments.output, FORMATS)
    trial = Trial(arguments.num_random, arguments.seed, arguments.bounds)
    model, tokenizer = load_named(arguments.model, settings)
    if model.config.task not in EXPLAINED_TASKS:
        raise ValueError(f"{arguments.model!r} is for {model.config.task!r}; name one for {', '.join(EXPLAINED_TASKS)}")
    examples = load_examples(find_source(arguments.data))
    longest = min(arguments.max_length or model.config.max_positions, model.config.max_positions)
    encodings = drawn(examples, tokenizer, arguments.rows, arguments.seed, longest)
    model = model.to(serving_device(settings.device, 1, gpu_count()))
    texts = measure(model, tokenizer, encodings, arguments.methods, trial)
    report = attribution_report(texts, trial, arguments.model, Path(arguments.data).name)
    written = f"{table(report)}\n\n{note(report)}\n"
    print(written)
    if arguments.output is not None:
        forms = {
            ".md": written.encode,
            ".json": lambda: json.dumps(report, indent=1, ensure_ascii=False).encode(),
            ".png": lambda: picture(report),
        }
        write_form(arguments.output, forms)
        print(arguments.output)


def drawn(examples: Examples, tokenizer: Tokenizer, rows: int, seed: int, max_length: int) -> list[Encoding]:
    """So many rows by chance, all when there are fewer; those without a token of their own are left out."""
    if rows < 1:
        raise ValueError(f"rows is {rows}; it must be at least 1")
    chosen = random.Random(seed).sample(examples.inputs, min(rows, len(examples.inputs)))
    encodings = [each for each in tokenizer.encode(chosen, max_length) if not all(each.special)]
    if not encodings:
        raise ValueError("no row has a token that the model reads; name rows with text in the model's language")
    return encodings


def measure(
    model: TextModel, tokenizer: Tokenizer, encodings: Sequence[Encoding], names: Sequence[str], trial: Trial
) -> list[dict[str, Judged]]:
    """With a bar -> each text's figures, by the method's name."""
    replacement = replacement_id(tokenizer, model.config)
    known = all_methods(replacement, trial.seed, trial.max_tokens)
    chosen = {name: known[name] for name in names}
    compared = compare(model.requires_grad_(False), encodings, chosen, replacement, trial)
    return list(tqdm(compared, total=len(encodings), unit="text"))
