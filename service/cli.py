"""The `vitrine` command: set up, run a worker, and the commands of training; beside those that load no torch."""

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
)
from service.command import DESCRIPTION, obey
from service.database import opened
from service.files import FileStorage
from service.ids import new_id
from service.jobs import on_ray, process
from service.jobs.store import DEMO_PRIORITY, JobStore
from service.registry import ModelStore
from service.settings import Settings, read_settings
from service.tables import Job
from training.catalogue import MINILM_SHA256, fetch_minilm, sha256_of, write_splits
from training.cli import Store, add_commands

DEMO_DATA = "movie-sentiment"


def main() -> None:
    """All commands; called by `command.py`."""
    obey(parser_of(read_settings()))


def parser_of(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vitrine", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup", help="put the base model into the model store and queue the demonstration job")
    setup.set_defaults(run=lambda _: run_setup(settings))
    serve_cli.add_command(commands, settings)
    alone = commands.add_parser("worker", help="run a job worker alone, on a host that shares the state folder")
    alone.set_defaults(run=lambda _: process.main())
    store = Store(
        publish=partial(publish, settings),
        find_base=partial(data_cli.find_base, settings=settings),
        bases=lambda: ModelStore.of(settings).bases(),
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


def run_setup(settings: Settings) -> None:
    """Idempotent; the second call only looks."""
    store = ModelStore.of(settings)
    if not any(card.id == "minilm-l6" for card in store.cards()):
        print("fetching the base model minilm-l6 (84 MB) ...", flush=True)
        folder = fetch_minilm(settings.cache)
        store.publish(folder, "minilm-l6", f"minilm-l6:{MINILM_SHA256[:12]}", None, None)
    store.share_all()
    if settings.demo_job:
        queue_demo(settings)


def queue_demo(settings: Settings) -> None:
    """One epoch of movie sentiment at the lowest priority, once, and only while no other job was ever made."""
    with opened(settings.database_url) as database:
        jobs = JobStore(database)
        if settings.first_key_owner:  # else it would belong to nobody who can ask
            jobs = jobs.of(settings.first_key_owner)
        if jobs.has_jobs():
            return
        print("fetching the movie sentences for the demonstration job (2 MB) ...", flush=True)
        paths = write_splits(DEMO_DATA, settings.cache, settings.cache)
        files = FileStorage.of(settings)
        ids = []
        for path in paths[:2]:  # training and validation; the test rows stay unseen
            file_id = new_id("file")
            with path.open("rb") as rows:
                size = files.write(file_id, rows)
            jobs.add_file(file_id, path.name, size, "fine-tune")
            ids.append(file_id)
        job = Job(
            id=new_id("ftjob"), model="minilm-l6", training_file=ids[0], validation_file=ids[1], suffix="movie-demo",
            seed=0, hyperparameters={"n_epochs": 1, "batch_size": 32, "learning_rate_multiplier": 1.0},
            meta={"demo": "true"}, priority=DEMO_PRIORITY, request_key=None,
        )  # fmt: skip
        jobs.create_job(job, settings.max_queued_jobs, None)


if __name__ == "__main__":
    main()
