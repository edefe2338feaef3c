"""The `vitrine models` commands: import from Hugging Face or a tuned folder, export, list. Added by `command.py`."""

import argparse
from pathlib import Path

from model.huggingface.layouts import LAYOUTS
from service import remote_cli
from service.collector import loading
from service.settings import Settings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", settings: Settings) -> None:
    """Adds `models import|export|list` to the command line."""
    models = commands.add_parser("models", help="move models between the store and Hugging Face folders")
    actions = models.add_subparsers(dest="action", required=True)
    take = actions.add_parser("import", help="put a Hugging Face model, or what `finetune` left, into the store")
    take.add_argument("source", help="a folder, or an id on the Hugging Face hub")
    take.add_argument("--name", help="the model's id here (default: the last part of the source, in lower case)")
    take.add_argument("--revision", help="branch, tag or commit on the hub")
    take.set_defaults(run=lambda arguments: _import(arguments, settings))
    give = actions.add_parser("export", help="write a model of the store as a Hugging Face folder")
    give.add_argument("model", help="the model's id")
    give.add_argument("folder", type=Path, help="a new folder")
    give.add_argument("--layout", choices=sorted(LAYOUTS), help="default: the one that fits the model's shape")
    give.set_defaults(run=lambda arguments: _export(arguments, settings))
    remote_cli.add_model_commands(actions)
    shown = actions.add_parser("list", help="the models in the store")
    shown.set_defaults(
        run=lambda _: print("\n".join(list_models(settings)) or "no model yet; see vitrine models import")
    )


def _import(arguments: argparse.Namespace, settings: Settings) -> None:
    with loading():
        from service.exchange import import_model

    print(import_model(arguments.source, arguments.name, arguments.revision, settings))


def _export(arguments: argparse.Namespace, settings: Settings) -> None:
    with loading():
        from service.exchange import export_model

    print(export_model(arguments.model, arguments.folder, arguments.layout, settings))


def list_models(settings: Settings) -> list[str]:
    """One line a model: id, task, shape, tag."""
    with loading():
        from service.model_store import ModelStore

    rows = [
        (card.id, card.config.task, f"{card.config.num_layers} x {card.config.width}", card.tag)
        for card in ModelStore.of(settings).cards()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
