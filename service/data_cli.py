"""The `vitrine data report` command: what is in a training file, as a page, a picture or JSON. Added by `cli.py`."""

import argparse
import json
from pathlib import Path

from model.folders import is_model_folder, load_config, load_tokenizer
from service.errors import NotFound
from service.model_store import ModelStore
from service.report.data.page import report_page
from service.report.data.picture import report_png
from service.report.output import check_output, write_form
from service.settings import Settings
from training.catalogue import fetch_minilm
from training.cli import SOURCE_HELP, Commands
from training.config import Recipe
from training.faults import Fault
from training.report import data_report, read_source
from training.tables import find_source

FORMATS = (".html", ".json", ".png")


def add_report(data_commands: Commands, settings: Settings) -> None:
    """Adds `report` to the commands of `vitrine data`."""
    report = data_commands.add_parser("report", help="what is in a training file: labels, lengths, copies, faults")
    report.add_argument("file", help=SOURCE_HELP)
    report.add_argument("--validation", help="validation rows, named the same way")
    report.add_argument(
        "--base", default=settings.default_model, help="model whose tokenizer measures: an id or a folder"
    )
    report.add_argument("--max-length", type=int, default=Recipe.max_length, help="tokens a row, as in fine-tuning")
    report.add_argument("--output", type=Path, help="file to write: .html, .json or .png (default: words here)")
    report.set_defaults(run=lambda arguments: run_report(arguments, settings))


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


def find_base(given: str, settings: Settings) -> Path:
    """A model folder, a model of the store, or the default model, which is fetched when it is not there yet."""
    if is_model_folder(Path(given)):
        return Path(given)
    try:
        card = ModelStore.of(settings).find(given)
    except NotFound as error:
        if given == "minilm-l6":
            return fetch_minilm(settings.cache)
        raise ValueError(f"{error}; or name a model folder") from None
    if card.adapter:
        raise ValueError(f"{given!r} is an adapter over {card.base_model!r}; name that one")
    return card.folder
