"""SIGTERM under load: what was accepted is answered, what comes is told to come again, the job goes on where it was."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.database import Database
from service.jobs.store import JobStore
from service.settings import Settings
from tests.chaos import BASE, prepare_base, rows
from tests.conftest import Service, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
UPLOAD = {"content-type": "multipart/form-data; boundary=x"}
AMID_JOB_STEPS = 30
ASKED_SECONDS = 1.0  # before the signal


@dataclass
class Asked:
    """What became of the requests of some clients: when each was sent and answered, and its status; 0 for none."""

    answers: list[tuple[float, float, int, str]] = field(default_factory=list)

    def keep_asking(self, url: str, stop: threading.Event, keep_alive: bool) -> None:
        body = {"model": BASE, "input": ["red cat runs", "blue dog sleeps"] * 8}
        limits = httpx.Limits(max_keepalive_connections=5 if keep_alive else 0)
        with httpx.Client(timeout=60, limits=limits) as client:
            while not stop.is_set():
                sent = time.monotonic()
                try:
                    answer = client.post(f"{url}/v1/embeddings", json=body)
                    again = answer.headers.get("retry-after", "")
                    self.answers.append((sent, time.monotonic(), answer.status_code, again))
                except httpx.HTTPError:
                    self.answers.append((sent, time.monotonic(), 0, ""))
                    time.sleep(0.05)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    home = tmp_path / "home"
    prepare_base(home)
    settings = {"VITRINE_DEFAULT_MODEL": BASE, "OMP_NUM_THREADS": "1", "VITRINE_TRAINING_THREADS": "1"}
    settings |= {"VITRINE_GRACE_SECONDS": "120", "VITRINE_STALL_SECONDS": "300"}  # longer than a busy machine pauses
    running = Service(home, VITRINE_API_WORKERS="2", VITRINE_KEEP_CHECKPOINTS="0", **settings)
    yield running
    if running.process is not None:
        running.kill()


def begin_job(service: Service) -> str:
    body, _ = rows(0)
    file_id = httpx.post(f"{service.url}/v1/files", content=body, headers=UPLOAD, timeout=60).json()["id"]
    wanted: dict[str, Any] = {"model": BASE, "training_file": file_id, "seed": 1}
    wanted["hyperparameters"] = {"n_epochs": 12, "batch_size": 8}
    job = httpx.post(f"{service.url}/v1/fine_tuning/jobs", json=wanted, timeout=60).json()["id"]
    wait_for(
        lambda: steps_of(service, job) >= AMID_JOB_STEPS,
        300,
        lambda: (service.home / "service.log").read_text()[-3000:],
    )
    return str(job)


def steps_of(service: Service, job: str) -> int:
    shown = httpx.get(f"{service.url}/v1/fine_tuning/jobs/{job}", timeout=60).json()
    return int((shown.get("progress") or {}).get("step", 0))


def half_an_upload(service: Service) -> tuple[socket.socket, bytes]:
    """A request that is accepted -> its connection, and what is still to send."""
    body, _ = rows(1)
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    head = f"POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1:{service.port}\r\ncontent-length: {len(body)}\r\n"
    connection.sendall(f"{head}content-type: {UPLOAD['content-type']}\r\n\r\n".encode() + body[:10_000])
    return connection, body[10_000:]


def test_no_accepted_request_is_lost_and_the_job_goes_on_after_its_last_step(service: Service) -> None:
    service.start(set_up=False)
    job = begin_job(service)
    asked, stop = Asked(), threading.Event()
    clients = [
        threading.Thread(target=asked.keep_asking, args=(service.url, stop, kind)) for kind in (True, True, False)
    ]
    for client in clients:
        client.start()
    connection, rest = half_an_upload(service)
    wait_for(lambda: len(asked.answers) > 20 and time.monotonic() - asked.answers[0][0] > ASKED_SECONDS, 60)
    assert service.process is not None
    told = time.monotonic()
    os.kill(service.process.pid, signal.SIGTERM)
    wait_for(lambda: all(look(service, "/readyz").status_code == 503 for _ in range(10)), 60)  # both API processes
    refused = look(service, "/readyz")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["error"]["message"] == "the service is stopping; try again in a moment"
    assert look(service, "/livez").status_code == 200
    time.sleep(1.0)
    connection.sendall(rest)
    answer = connection.makefile("rb").read()  # to the end: the connection closes
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    uploaded = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
    assert service.process.wait(60) == 0
    stop.set()
    for client in clients:
        client.join()
    check_answers(asked, told)

    store = JobStore(Database(Settings(home=service.home).database_url))
    given_back = store.job(job)
    assert (given_back.status, given_back.worker, given_back.attempts) == ("queued", None, 0)
    assert store.list_events(job, None, 1)[0][0].message.startswith("The worker was stopped")
    state = json.loads(next((service.home / "runs" / job / "checkpoint").glob("state.json")).read_text())
    kept = int(state["position"]["step"])
    assert kept >= AMID_JOB_STEPS
    assert f"the run was asked to end at step {kept} of" in (service.home / "service.log").read_text()

    service.process = None
    service.start(set_up=False)
    assert httpx.get(f"{service.url}/v1/files/{uploaded}", timeout=60).status_code == 200
    before = int((given_back.progress or {})["step"])  # the last it told, not the last it made
    wait_for(lambda: steps_of(service, job) != before or kept == before, 300)
    assert steps_of(service, job) >= kept
    wait_for(lambda: store.job(job).status == "succeeded", 400, lambda: store.job(job).error)
    assert store.job(job).attempts == 1
    messages = [event.message for event in store.list_events(job, None, 1000)[0]]
    assert not [message for message in messages if "died" in message]
    store._database.close()


def look(service: Service, path: str) -> httpx.Response:
    """Asks until there is an answer: one of the API processes may have ended amid the request."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{service.url}{path}", timeout=60)
        time.sleep(0.05)


def check_answers(asked: Asked, told: float) -> None:
    before = [(came, status) for sent, came, status, _ in asked.answers if sent < told]
    after = [(status, again) for sent, _, status, again in asked.answers if sent >= told]
    assert {status for came, status in before if came < told} == {200}
    assert {status for _, status in before} <= {200, 503}, "one that was on its way may be refused, but not dropped"
    assert {status for status, _ in after} <= {200, 503, 0}, "200 until the signal is heard, 0 when nobody is there"
    refused = [again for status, again in after if status == 503]
    assert len(refused) > 3
    assert set(refused) == {"5"}


def test_when_the_time_is_over_the_service_ends_and_tells_who_waits(service: Service) -> None:
    service.environment["VITRINE_GRACE_SECONDS"] = "1"
    service.start(set_up=False)
    connection, _ = half_an_upload(service)
    assert service.process is not None
    time.sleep(0.5)
    began = time.monotonic()
    os.kill(service.process.pid, signal.SIGTERM)
    answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503 "), answer
    assert b"retry-after: 5" in answer
    assert service.process.wait(60) == 0
    assert time.monotonic() - began < 60, "else it had waited for the upload to stall"
    service.process = None
