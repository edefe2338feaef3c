"""The `vitrine` command. Most of it begins at once; the commands that train, read or draw a model load what they need,
which takes seconds, when they are asked for: until then they are told here by name.
"""

import argparse
import importlib
import sys
from collections.abc import Collection

from service import backup_cli, keys_cli, models_cli, remote_cli, serve_cli, setup_cli
from service.collector import loading
from service.errors import ServiceError
from service.jobs import on_ray, process
from service.settings import Settings, read_settings

DESCRIPTION = "Run, tune and look inside Transformers."
LOADED_ON_DEMAND = {  # by module, with what the parsers of its commands say of them
    "service.data_cli": {"data": "write a catalogue data set as JSONL files, or report on a file of yours"},
    "service.training_cli": {
        "finetune": "fine-tune a base model on a labelled file, in this process",
        "pretrain": "train a Transformer on running text, from random weights",
    },
    "service.evaluate_cli": {"evaluate": "figures of a tuned model on labelled rows, beside simple models"},
    "service.explain_cli": {"explain": "how faithful explanations of a model are"},
    "service.diagram_cli": {"diagram": "draw a model: blocks, shapes, parameters, FLOPs per token"},
}


def main() -> None:
    """Called by `__main__.py`."""
    obey(parser_of(read_settings(), sys.argv[1:2]))


def parser_of(settings: Settings, wanted: Collection[str]) -> argparse.ArgumentParser:
    """All commands; of those that are loaded on demand only the wanted ones with their options."""
    parser = argparse.ArgumentParser(prog="vitrine", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    setup_cli.add_command(commands, settings)
    serve_cli.add_command(commands, settings)
    alone = commands.add_parser("worker", help="run a job worker alone, on a host that shares the state folder")
    alone.set_defaults(run=lambda _: process.main())
    models_cli.add_commands(commands, settings)
    keys_cli.add_commands(commands, settings)
    backup_cli.add_commands(commands, settings)
    remote_cli.add_commands(commands)
    on_ray.add_command(commands)
    for module, named in LOADED_ON_DEMAND.items():
        if named.keys() & set(wanted):
            with loading():
                needed = importlib.import_module(module)
            needed.add_commands(commands, settings)
            continue
        for name, meaning in named.items():
            commands.add_parser(name, help=meaning)
    return parser


def obey(parser: argparse.ArgumentParser) -> None:
    """Runs what was asked for; errors a user can act on come without a traceback."""
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (ServiceError, ValueError, RuntimeError, OSError) as error:
        sys.exit(f"vitrine: {error}")
