"""The `vitrine diagram` command: a model as SVG or Mermaid. Added by `command.py`."""

import argparse
import os
from pathlib import Path
from typing import get_args

from model.config import PRESETS, TransformerConfig
from model.diagram import Format, draw_config
from model.folders import is_adapter_folder, is_model_folder, load_adapter_config, load_config
from service.errors import NotFound
from service.model_store import ModelStore
from service.settings import Settings

FORMATS: dict[str, Format] = {".svg": "svg", ".mmd": "mermaid"}  # by the ending of a file


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", settings: Settings) -> None:
    """Adds `diagram` to the command line."""
    diagram = commands.add_parser("diagram", help="draw a model: blocks, shapes, parameters, FLOPs per token")
    diagram.add_argument("model", help=f"one of {', '.join(PRESETS)}; a model folder; or a model's id in the store")
    diagram.add_argument("--format", choices=get_args(Format), help="default: by the ending of --output, else svg")
    diagram.add_argument("--output", type=Path, help="file to write, .svg or .mmd (default: standard output)")
    diagram.set_defaults(run=lambda arguments: run_diagram(arguments, settings))


def run_diagram(arguments: argparse.Namespace, settings: Settings) -> None:
    form = arguments.format or _format_of(arguments.output)
    name, config = find_model(arguments.model, settings)
    text = draw_config(config, name, form)
    if arguments.output is None:
        print(text, end="")
        return
    temporary = arguments.output.with_name(f".{arguments.output.name}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, arguments.output)


def _format_of(output: Path | None) -> Format:
    """Raises ValueError for an ending that means another format."""
    if output is None:
        return "svg"
    if output.suffix not in FORMATS:
        raise ValueError(
            f"--output {output}: a diagram is written as {' or '.join(FORMATS)}; take one of these endings, or say "
            f"--format {' or '.join(get_args(Format))}"
        )
    return FORMATS[output.suffix]


def find_model(given: str, settings: Settings) -> tuple[str, TransformerConfig]:
    """A preset, a folder of a model or adapter, or a model of the store -> its name and config; no weights are read.

    Raises ValueError that says what there is.
    """
    if given in PRESETS:
        return given, PRESETS[given]
    folder = Path(given)
    if is_adapter_folder(folder):
        return folder.resolve().name, load_adapter_config(folder)[1]
    if is_model_folder(folder):
        return folder.resolve().name, load_config(folder)
    try:
        card = ModelStore.of(settings).find(given)
    except NotFound as error:
        raise ValueError(f"{error}; presets: {', '.join(PRESETS)}; or name a model folder") from None
    return card.id, card.config
