"""The `vitrine` command. Each command loads what it needs when it is asked for, which takes seconds where that is
torch; until then the commands are told here by name.
"""

import argparse
import importlib
import sys
from collections.abc import Collection

from service.collector import loading
from service.errors import ServiceError
from service.settings import Settings, read_settings

DESCRIPTION = "Run, tune and look inside Transformers."
COMMANDS = {  # by the module that adds them, with what their parsers say of them
    "service.setup_cli": {"setup": "put the base model into the model store and queue the demonstration job"},
    "service.serve_cli": {"serve": "start the service (and its job worker)"},
    "service.jobs.process": {"worker": "run a job worker alone, on a host that shares the state folder"},
    "service.models_cli": {"models": "move models between the store and Hugging Face folders"},
    "service.keys_cli": {"keys": "API keys: create, list, revoke"},
    "service.backup_cli": {
        "backup": "store, files, models, names and keys in one tar, while the service runs",
        "restore": "a backup into an empty state folder",
    },
    "service.remote_cli": {
        "files": "files of a running service: upload, list, delete",
        "jobs": "fine-tuning jobs of a running service",
    },
    "service.jobs.on_ray": {"on-ray": "train a job on the Ray cluster that runs this command"},
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
    """All commands, the wanted ones with their options."""
    parser = argparse.ArgumentParser(prog="vitrine", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    for module, named in COMMANDS.items():
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
