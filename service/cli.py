"""The `vitrine` command: run a worker, and the commands of training; beside those that load no torch."""

import argparse
from functools import partial
from pathlib import Path

from model.weights import WEIGHTS_FILE
from service import (
    backup_cli,
    data_cli,
    diagram_cli,
    evaluate_cli,
    explain_cli,
    keys_cli,
    models_cli,
    remote_cli,
    serve_cli,
    setup_cli,
)
from service.command import DESCRIPTION, obey
from service.jobs import on_ray, process
from service.model_store import ModelStore
from service.settings import Settings, read_settings
from training.catalogue import sha256_of
from training.cli import Store, add_commands


def main() -> None:
    """All commands; called by `command.py`."""
    obey(parser_of(read_settings()))


def parser_of(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vitrine", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    setup_cli.add_command(commands, settings)
    serve_cli.add_command(commands, settings)
    alone = commands.add_parser("worker", help="run a job worker alone, on a host that shares the state folder")
    alone.set_defaults(run=lambda _: process.main())
    store = Store(
        publish=partial(publish, settings),
        find_base=partial(data_cli.find_base, settings=settings),
        bases=lambda: ModelStore.of(settings).bases(),
        check_name=models_cli.check_name,
    )
    data_commands = add_commands(commands, settings.home.absolute(), store)
    data_cli.add_report(data_commands, settings)
    evaluate_cli.add_commands(commands, settings)
    explain_cli.add_commands(commands, settings)
    models_cli.add_commands(commands, settings)
    keys_cli.add_commands(commands, settings)
    backup_cli.add_commands(commands, settings)
    remote_cli.add_commands(commands)
    on_ray.add_command(commands)
    diagram_cli.add_commands(commands, settings)
    return parser


def publish(settings: Settings, name: str, folder: Path) -> str:
    """Puts a pre-trained model into the store as a base; another one of the same name takes its place."""
    tag = f"{name}:{sha256_of(folder / WEIGHTS_FILE)[:12]}"
    ModelStore.of(settings).replace(folder, name, tag)
    return f"in the model store as {name!r}; GET /v1/models lists it"


if __name__ == "__main__":
    main()
