"""`vitrine setup`: the base model into the store, and the demonstration job. Every start of a service begins with it,
and mostly it only looks: the catalogue, with all it imports, is loaded when there is something to fetch, torch never.
"""

from typing import Any

from service.database import opened
from service.files import FileStorage
from service.ids import new_id
from service.jobs.store import DEMO_PRIORITY, JobStore
from service.model_store import ModelStore
from service.settings import Settings
from service.tables import Job

DEMO_DATA = "movie-sentiment"


def add_commands(commands: Any, settings: Settings) -> None:
    setup = commands.add_parser("setup", help="put the base model into the model store and queue the demonstration job")
    setup.set_defaults(run=lambda _: run_setup(settings))


def run_setup(settings: Settings) -> None:
    """Idempotent; the second call only looks."""
    store = ModelStore.of(settings)
    if not any(card.id == "minilm-l6" for card in store.cards()):
        from training.catalogue import MINILM_SHA256, fetch_minilm

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
        from training.catalogue import write_splits

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
