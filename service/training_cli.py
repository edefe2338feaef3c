"""The commands of `training/cli.py` with this service's model store. Added by `command.py`."""

import argparse
from functools import partial
from pathlib import Path

from model.weights import WEIGHTS_FILE
from service.bases import find_base
from service.model_store import ModelStore, check_name
from service.settings import Settings
from training import cli
from training.catalogue import sha256_of


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", settings: Settings) -> None:
    """Adds `finetune` and `pretrain` to the command line."""
    store = cli.Store(
        publish=partial(publish, settings),
        find_base=partial(find_base, settings=settings),
        bases=lambda: ModelStore.of(settings).bases(),
        check_name=check_name,
    )
    cli.add_commands(commands, settings.home.absolute(), store)


def publish(settings: Settings, name: str, folder: Path) -> str:
    """Puts a pre-trained model into the store as a base; another one of the same name takes its place."""
    tag = f"{name}:{sha256_of(folder / WEIGHTS_FILE)[:12]}"
    ModelStore.of(settings).replace(folder, name, tag)
    return f"in the model store as {name!r}; GET /v1/models lists it"
