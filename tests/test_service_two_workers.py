"""Two real worker processes, fifty jobs of three owners, on SQLite and on PostgreSQL: each job once, owners in turn."""

import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from service.database import Database
from service.files import FileStorage
from service.ids import new_id
from service.jobs.store import JobStore
from service.settings import Settings
from service.tables import Job
from tests.chaos import BASE, prepare_base
from tests.conftest import ROOT, wait_for

SHARES = {"ann": 30, "bob": 15, "cem": 5}
ROWS = b"".join(
    b'{"text": "red cat %d", "label": "x"}\n{"text": "blue dog %d", "label": "y"}\n' % (n, n) for n in range(12)
)


@pytest.mark.slow
@pytest.mark.timeout(1_000)
def test_fifty_jobs_of_three_owners_run_once_each_and_in_turn(database_url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare_base(home)
    settings = Settings(home=home, default_model=BASE, database=database_url)
    store = JobStore(Database(settings.database_url))
    files = FileStorage(settings.files)
    for owner, count in SHARES.items():  # Ann's thirty come first
        own = store.of(owner)
        file_id = new_id("file")
        own.add_file(file_id, "rows.jsonl", files.write(file_id, io.BytesIO(ROWS)), "fine-tune")
        store.set_file_checked(file_id, [], [], ["x", "y"], 24, "classification")
        for number in range(count):
            fields = {"n_epochs": 1, "batch_size": 8, "training_method": "fine_tune"}
            job = Job(id=new_id("ftjob"), model=BASE, training_file=file_id, seed=number, hyperparameters=fields, meta={}, request_key=None)  # fmt: skip
            own.create_job(job, 100, None)
    environment = os.environ | {
        "VITRINE_HOME": str(home), "VITRINE_DATABASE": database_url, "VITRINE_DEFAULT_MODEL": BASE,
        "VITRINE_TRAINING_THREADS": "1", "OMP_NUM_THREADS": "1", "VITRINE_KEEP_CHECKPOINTS": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "service.jobs.process"]
    workers = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    try:
        wait_for(lambda: store.figures().by_state["succeeded"] == 50, 800, store.figures)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    jobs = sorted(store.list_jobs(None, 100)[0], key=lambda job: job.claimed_at or 0.0)
    assert [job.attempts for job in jobs] == [1] * 50, "claimed once"
    for job in jobs:
        keys = [event.key for event in store.events_since(job.id, None, 1_000)[0]]
        assert keys.count("succeeded") == 1
        assert len(keys) == len(set(keys))
    for owner in SHARES:  # an owner's own by age
        created = [job.created_at for job in jobs if job.owner == owner]
        assert created == sorted(created)
    taken: Counter[str | None] = Counter()
    for job in jobs:  # while all three have jobs that wait, none gets ahead of another by more than two workers' worth
        taken[job.owner] += 1
        waiting = [owner for owner, count in SHARES.items() if taken[owner] < count]
        if len(waiting) == 3:
            assert max(taken.values()) - min(taken[owner] for owner in SHARES) <= 2, taken
    places = {owner: max(at for at, job in enumerate(jobs, 1) if job.owner == owner) for owner in SHARES}
    assert places["cem"] <= 3 * 5 + 2
    assert places["bob"] <= 5 + 2 * 15 + 2
    assert len({job.fine_tuned_model for job in jobs}) == 50
    store._database.close()
