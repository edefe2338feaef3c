"""A worker beside a Ray cluster that comes and goes: Ray's own client asks a stand-in for the cluster's head. Whole
clusters are for e2e/test_ray.py."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import service.jobs.executors
from service.jobs.executors import AWAY_SECONDS, RETRY_SECONDS, OnRay
from service.jobs.store import MAX_ATTEMPTS
from service.jobs.worker import Worker
from service.settings import Settings
from tests.conftest import free_port, wait_for
from tests.test_service_jobs_store import add_job

TRIES = 2 * MAX_ATTEMPTS


class Head:
    """The Jobs API of a cluster that runs nothing. Stopped, it refuses connections; started again, at the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.statuses: dict[str, str] = {}  # by submission
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        head = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(head.told(self.path.removeprefix("/api/").strip("/")))

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                head.statuses[asked["submission_id"]] = "RUNNING"
                self.answer({"submission_id": asked["submission_id"], "job_id": asked["submission_id"]})

            def answer(self, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(200 if body is not None else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def told(self, path: str) -> Any:
        """None for what is not there."""
        details = {
            name: {"type": "SUBMISSION", "submission_id": name, "job_id": None, "entrypoint": "true", "status": status}
            for name, status in self.statuses.items()
        }
        if path == "version":
            return {"version": "4", "ray_version": "2.50.0", "ray_commit": "", "session_name": ""}
        if path == "jobs":
            return list(details.values())
        return {"logs": ""} if path.endswith("/logs") else details.get(path.removeprefix("jobs/"))


class Counted(threading.Event):
    """Waits are counted, not made."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()


@pytest.fixture
def head() -> Iterator[Head]:
    made = Head()
    yield made
    made.stop()


@pytest.fixture
def leaving() -> Counted:
    return Counted()


@pytest.fixture
def worker(
    head: Head, leaving: Counted, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Worker]:
    monkeypatch.setattr(service.jobs.executors, "POLL_SECONDS", 0.05)
    settings = Settings(
        home=tmp_path / "home", executor="ray", ray_address=f"http://127.0.0.1:{head.port}", database=database_url,
        artefacts=f"file://{tmp_path}/shared", device="cpu",
    )  # fmt: skip
    made = Worker(settings, leaving=leaving)
    yield made
    made.database.close()


def messages(worker: Worker, job_id: str) -> list[str]:
    return [event.message for event in worker.store.events_since(job_id, None, 1_000)[0]]


def submitted_then(worker: Worker, head: Head, happens: Any) -> str:
    """The worker takes a job up; once that is on the cluster, something happens -> what it was submitted as."""
    before = set(head.statuses)
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(worker.work_once)
        wait_for(lambda: len(head.statuses) > len(before) or done.done(), 60, lambda: head.statuses)
        (submission,) = set(head.statuses) - before
        happens(submission)
        assert done.result(120)
    return submission


def test_a_cluster_that_is_away_costs_no_attempt_and_is_told_once(worker: Worker, head: Head, leaving: Counted) -> None:
    job_id = add_job(worker.store).id
    for _ in range(TRIES):
        assert worker.work_once()
    job = worker.store.job(job_id)
    assert (job.status, job.attempts, job.error, job.worker) == ("queued", 0, None, None)
    awaited = "the Ray cluster takes no jobs; the job waits for it"
    assert messages(worker, job_id) == ["Created fine-tuning job", awaited]
    assert leaving.waits == [AWAY_SECONDS] * TRIES
    head.start()
    submission = submitted_then(worker, head, lambda name: head.statuses.update({name: "FAILED"}))
    job = worker.store.job(job_id)
    assert (job.status, job.attempts) == ("queued", 1), "a run that ended without a result is an attempt"
    assert leaving.waits[TRIES:] == [RETRY_SECONDS]
    head.stop()
    assert worker.work_once()
    assert worker.work_once()
    assert worker.store.job(job_id).attempts == 1
    assert messages(worker, job_id)[2:] == [
        f"Submitted to the Ray cluster as {submission}",
        "the run on the cluster is gone without a result (Ray: FAILED); the job goes on from its last checkpoint",
        awaited,
    ]


def test_a_cluster_that_falls_silent_amid_a_job_costs_no_attempt(
    worker: Worker, head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.jobs.executors, "SILENCE_SECONDS", 1.0)
    job_id = add_job(worker.store).id
    for _ in range(MAX_ATTEMPTS + 1):
        head.start()
        submission = submitted_then(worker, head, lambda _: head.stop())
        assert worker.work_once(), "while it is still silent"
        job = worker.store.job(job_id)
        assert (job.status, job.attempts) == ("queued", 0)
        assert messages(worker, job_id)[-2:] == [
            f"Submitted to the Ray cluster as {submission}",
            "the Ray cluster has not answered for 1 s; the job goes on from its last checkpoint when it does",
        ]


def test_a_run_that_a_new_cluster_knows_nothing_of_was_an_attempt(worker: Worker, head: Head) -> None:
    """Its own doing, perhaps: a job that ends its cluster each time must not do so for ever."""
    head.start()
    job_id = add_job(worker.store).id
    for _ in range(MAX_ATTEMPTS):
        submitted_then(worker, head, lambda _: head.statuses.clear())
    assert worker.store.job(job_id).attempts == MAX_ATTEMPTS
    assert "gone without a result (Ray: UNKNOWN)" in messages(worker, job_id)[-1]
    assert worker.work_once()
    assert worker.store.job(job_id).status == "failed"


def test_a_worker_without_ray_takes_no_job(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"Ray is not installed; install vitrine\[ray\]"):
        OnRay(worker.settings, worker.store, worker.name, threading.Event())
