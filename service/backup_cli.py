"""`vitrine backup` and `vitrine restore`: the state of a service as one file, and back."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from service.backup.archive import Manifest, TellBytes
from service.backup.restore import restore
from service.backup.write import back_up
from service.settings import Settings


def add_commands(commands: Any, settings: Settings) -> None:
    save = commands.add_parser("backup", help="store, files, models, names and keys in one tar, while the service runs")
    save.add_argument("file", type=Path, help="a new file, as backup.tar")
    save.set_defaults(run=lambda arguments: _backup(settings, arguments))
    back = commands.add_parser("restore", help="a backup into an empty state folder")
    back.add_argument("file", type=Path)
    back.set_defaults(run=lambda arguments: _restore(settings, arguments))


def _backup(settings: Settings, arguments: argparse.Namespace) -> None:
    manifest = _shown("backing up", lambda tell: back_up(settings, arguments.file, tell))
    print(f"{arguments.file}: {manifest.summary}")


def _restore(settings: Settings, arguments: argparse.Namespace) -> None:
    manifest = _shown("restoring", lambda tell: restore(settings, arguments.file, tell))
    print(f"{settings.home}: {manifest.summary}; start it by `vitrine serve`")


def _shown(what: str, work: Callable[[TellBytes], Manifest]) -> Manifest:
    """With a bar, in a terminal."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        return work(lambda done, total: bar.update(task, advance=done, total=total))
