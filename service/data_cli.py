"""The `vitrine data` commands: a catalogue data set as files; and what is in a training file, as a page, a picture or
JSON. Added by `command.py`."""

import argparse
import json
from pathlib import Path

from model.folders import load_config, load_tokenizer
from service.bases import find_base
from service.report.data.page import report_page
from service.report.data.picture import report_png
from service.report.output import check_output, write_form
from service.settings import Settings
from training.catalogue import DATASETS, write_splits
from training.config import Recipe
from training.faults import Fault
from training.report import data_report, read_source
from training.tables import SOURCE_HELP, find_source

FORMATS = (".html", ".json", ".png")


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", settings: Settings) -> None:
    """Adds `data` to the command line."""
    data = commands.add_parser("data", help="write a catalogue data set as JSONL files, or report on a file of yours")
    actions = data.add_subparsers(dest="name", required=True)
    for name in sorted(DATASETS):
        one = actions.add_parser(name, help=f"write {name} as JSONL files")
        one.add_argument("--output", type=Path, default=Path(), help="folder for the files (default: here)")
        one.set_defaults(run=lambda arguments: write_data(arguments, settings))
    report = actions.add_parser("report", help="what is in a training file: labels, lengths, copies, faults")
    report.add_argument("file", help=SOURCE_HELP)
    report.add_argument("--validation", help="validation rows, named the same way")
    report.add_argument(
        "--base", default=settings.default_model, help="model whose tokenizer measures: an id or a folder"
    )
    report.add_argument("--max-length", type=int, default=Recipe.max_length, help="tokens a row, as in fine-tuning")
    report.add_argument("--output", type=Path, help="file to write: .html, .json or .png (default: words here)")
    report.set_defaults(run=lambda arguments: run_report(arguments, settings))


def write_data(arguments: argparse.Namespace, settings: Settings) -> None:
    for path in write_splits(arguments.name, settings.cache, arguments.output):
        print(path)


def run_report(arguments: argparse.Namespace, settings: Settings) -> None:
    output: Path | None = arguments.output
    check_output(output, FORMATS)
    folder = find_base(arguments.base, settings)
    length = min(arguments.max_length, load_config(folder).max_positions)
    train = read_source(find_source(arguments.file), Path(arguments.file).name)
    validation = None
    if arguments.validation:
        validation = read_source(find_source(arguments.validation), Path(arguments.validation).name)
    report = data_report(train, validation, arguments.base, load_tokenizer(folder), Recipe(max_length=length))
    for kind in ("fault", "warning"):
        for item in report[f"{kind}s"]:
            print(f"{kind}: {Fault(**item)}")
    rows = report["rows"]
    print(f"{report['task']}: {rows['kept']:,} of {rows['read']:,} rows can be trained on")
    if output is not None:
        forms = {
            ".html": lambda: report_page(report).html.encode(),
            ".json": lambda: json.dumps(report, indent=1, ensure_ascii=False).encode(),
            ".png": lambda: report_png(report),
        }
        write_form(output, forms)
        print(output)
