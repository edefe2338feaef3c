"""The `vitrine` command's first step. What starts a service, what talks to a running one and what needs the database
alone begins at once: it never meets torch, which takes seconds to load. Everything else is `cli.py`'s, and told here
by name.
"""

import argparse
import sys
from collections.abc import Sequence

from service import backup_cli, keys_cli, remote_cli, serve_cli, setup_cli
from service.errors import ServiceError
from service.settings import read_settings

DESCRIPTION = "Run, tune and look inside Transformers."

LOADED_ON_DEMAND = {  # commands of `cli.py`, with what their parsers say of them
    "worker": "run a job worker alone, on a host that shares the state folder",
    "data": "write a catalogue data set as JSONL files, or report on a file of yours",
    "finetune": "fine-tune a base model on a labelled file, in this process",
    "pretrain": "train a Transformer on running text, from random weights",
    "evaluate": "figures of a tuned model on labelled rows, beside simple models",
    "explain": "how faithful explanations of a model are",
    "models": "move models between the store and Hugging Face folders",
    "on-ray": "train a job on the Ray cluster that runs this command",
    "diagram": "draw a model: blocks, shapes, parameters, FLOPs per token",
}


def main() -> None:
    """Called by `__main__.py`."""
    words = sys.argv[1:]
    if words and words[0] in LOADED_ON_DEMAND and not is_light(words):
        from service.cli import main as all_commands

        all_commands()
        return
    settings = read_settings()
    parser = argparse.ArgumentParser(prog="vitrine", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    setup_cli.add_command(commands, settings)
    serve_cli.add_command(commands, settings)
    keys_cli.add_commands(commands, settings)
    backup_cli.add_commands(commands, settings)
    remote_cli.add_commands(commands)
    named = {name: commands.add_parser(name, help=meaning) for name, meaning in LOADED_ON_DEMAND.items()}
    remote_cli.add_model_commands(named["models"].add_subparsers(dest="action", required=True))
    obey(parser)


def is_light(words: Sequence[str]) -> bool:
    """Whether this module knows the command, and not only its first word."""
    command, action = [*words[:2], "", ""][:2]
    return command in ("setup", "serve", "files", "jobs", "keys", "backup", "restore") or (
        command == "models" and action in remote_cli.MODEL_COMMANDS
    )


def obey(parser: argparse.ArgumentParser) -> None:
    """Runs what was asked for; errors a user can act on come without a traceback."""
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (ServiceError, ValueError, RuntimeError, OSError) as error:
        sys.exit(f"vitrine: {error}")
