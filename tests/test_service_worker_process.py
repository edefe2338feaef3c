"""The worker's process beside a service: light while it waits, whatever errands it runs; with work it loads what that
needs, and lets it go when there is none."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.database import Database
from service.files import FileStorage
from service.jobs.errands import Errands
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.settings import Settings
from tests.conftest import ROOT, wait_for
from tests.test_service_jobs_store import Clock, add_job, clock, store
from tests.test_service_results import ROWS, finish, settings, submit, worker

__all__ = ["clock", "settings", "store", "worker"]  # fixtures
TORCH = b"libtorch_cpu"
MIB = 2**20


@contextmanager
def beside(home: Path, idle_seconds: float) -> Iterator["subprocess.Popen[bytes]"]:
    """A process as the supervisor starts it, which needs less patience before it lets its memory go."""
    code = f"from service.jobs import process; process.IDLE_SECONDS = {idle_seconds}; process.main(beside=True)"
    environment = os.environ | {"VITRINE_HOME": str(home), "VITRINE_DEFAULT_MODEL": "tiny", "VITRINE_DEVICE": "cpu"}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def resident(process: "subprocess.Popen[bytes]") -> int:
    """In bytes."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def can_be_told(process: "subprocess.Popen[bytes]") -> bool:
    """Whether SIGTERM asks it to end rather than ends it: from when its modules are there."""
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) & 1 << signal.SIGTERM - 1)


def has_torch(process: "subprocess.Popen[bytes]") -> bool:
    return TORCH in Path(f"/proc/{process.pid}/maps").read_bytes()


def add_rows(store: JobStore, files: FileStorage, name: str) -> Callable[[], bool]:
    """An upload -> whether it is checked and its report is made."""
    rows = "".join(f'{{"text": "{row["text"]}", "label": "{row["label"]}"}}\n' for row in ROWS).encode()
    store.add_file(name, "rows.jsonl", files.write(name, io.BytesIO(rows)), "fine-tune")
    return lambda: store.file(name).status == "processed" and store.report(name, "tiny").report is not None


@pytest.mark.timeout(900)
def test_a_process_beside_a_service_is_light_until_there_is_work_and_after_it(settings: Settings) -> None:
    store, files = JobStore(Database(settings.database_url)), FileStorage.of(settings)
    store.add_file("file-old", "a", files.write("file-old", io.BytesIO(b"a")), "batch", lives_seconds=0.0)
    with beside(settings.home, 3.0) as process:
        wait_for(lambda: not (settings.files / "file-old").exists(), 60)  # an errand needs no torch
        assert not has_torch(process)
        light = resident(process)
        assert light < 120 * MIB
        checked = add_rows(store, files, "file-new")
        seen: list[tuple[bool, int]] = []  # looked at while it works: it may be light again when it has ended
        wait_for(lambda: (seen.append((has_torch(process), resident(process))), checked())[1], 300)
        assert any(has for has, _ in seen)
        assert max(size for _, size in seen) > light + 100 * MIB
        wait_for(lambda: not has_torch(process) and resident(process) > 30 * MIB, 60)
        assert resident(process) < 120 * MIB
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 15, "no further down than before"
        wait_for(add_rows(store, files, "file-newer"), 300)  # and it works again
        wait_for(lambda: can_be_told(process), 60)
        process.terminate()
        assert process.wait(60) == 0
    store._database.close()


def test_a_light_process_ends_with_who_started_it_and_when_it_is_told_to(settings: Settings) -> None:
    for end in (lambda process: process.stdin.close(), lambda process: process.terminate()):
        with beside(settings.home, 600.0) as process:
            wait_for(lambda: can_be_told(process), 60)  # amid its start or its waiting: both end well
            end(process)
            assert process.wait(60) == 0


def test_work_is_what_a_worker_would_take(store: JobStore, clock: Clock) -> None:
    """Looked for without a change: an idle process asks twice a second."""
    assert not store.has_work(15)
    store.add_file("file-requests", "a", 1, "batch")
    assert not store.has_work(15), "requests are for the API"
    job = add_job(store)
    assert store.has_work(15)
    claimed = store.claim_job("w", 15)
    assert claimed is not None
    assert claimed.id == job.id
    assert not store.has_work(15), "another works on it"
    clock.now += 5
    assert not store.has_work(15), "its heartbeat may be late"
    clock.now += 4
    assert store.has_work(15), "another has died on it, and there is time to load before its lease is over"
    assert store.heartbeat(job.id, "w", 15)
    assert not store.has_work(15)
    clock.now += 16
    assert store.has_work(15)
    store.pause_job(job.id)
    assert not store.has_work(15)
    store.resume_job(job.id)
    assert store.has_work(15)
    store.cancel_job(job.id)
    assert not store.has_work(15)
    store.report(job.training_file, "other")
    assert store.has_work(15)
    store.set_report(job.training_file, "other", {})
    assert not store.has_work(15)
    store.add_file("file-new", "a", 1, "fine-tune")
    assert store.has_work(15)
    store.set_file_checked("file-new", [], [], [], 1)
    assert not store.has_work(15)


def test_what_a_run_took_goes_back_to_the_system_when_nothing_more_waits(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and not at each look: a run of MiniLM left 1.2 GB behind, of which 0.4 were free."""
    jobs = [submit(worker) for _ in range(2)]
    ends: list[list[str]] = []
    monkeypatch.setattr(
        "service.jobs.worker.give_back", lambda: ends.append([worker.store.job(job).status for job in jobs])
    )
    worker.run(idle_seconds=2.5)
    assert ends == [["succeeded"] * 2]


def test_old_runs_are_forgotten_and_models_and_results_stay(worker: Worker) -> None:
    job, open_job = finish(worker, submit(worker)), submit(worker)
    folder = worker.settings.runs / job.id
    (worker.settings.runs / open_job).mkdir()
    errands = Errands(worker.settings, worker.database)
    errands.forget_old_runs()
    assert folder.is_dir(), "not yet"
    errands.store.clock = lambda: time.time() + 31 * 86_400
    errands.forget_old_runs()
    assert not folder.exists()
    assert (worker.settings.runs / open_job).is_dir(), "a job that has not ended keeps its run"
    assert job.fine_tuned_model is not None
    assert worker.models.find(job.fine_tuned_model)
    assert job.result_files is not None
    assert worker.files.path(job.result_files[0]).is_file()
