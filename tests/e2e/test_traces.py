"""Traces of a real service with two API processes and a worker: of a job, of each process, and at the end of their life."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.chaos import BASE, prepare_base
from tests.collector import Collector, Told, collecting
from tests.conftest import Service, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ARRIVAL_SECONDS = 60  # a span is sent within a fifth of a second, on a machine that has time
JOB_SECONDS = 240
BODY = {"model": BASE, "input": ["red cat runs", "blue dog sleeps"]}
FLOOD = 60
GRACE_SECONDS = 10


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture
def service(tmp_path: Path, collector: Collector) -> Iterator[Service]:
    home = tmp_path / "home"
    prepare_base(home)
    settings = {"VITRINE_DEFAULT_MODEL": BASE, "OMP_NUM_THREADS": "1", "VITRINE_TRAINING_THREADS": "1"}
    settings |= {"VITRINE_API_WORKERS": "2", "VITRINE_LOG_FORMAT": "json"}
    settings |= {"VITRINE_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    settings |= {"OTEL_BSP_SCHEDULE_DELAY": "200", "VITRINE_GRACE_SECONDS": str(GRACE_SECONDS)}
    running = Service(home, **settings)
    yield running
    if running.process is not None:
        running.kill()


def ask(service: Service) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/embeddings", json=BODY, timeout=60).raise_for_status()


def root_of(collector: Collector, answer: httpx.Response) -> Told:
    request = answer.headers["x-request-id"]
    wait_for(lambda: bool(collector.roots(request)), ARRIVAL_SECONDS, lambda: [one.name for one in collector.spans])
    (root,) = collector.roots(request)
    return root


def log_of(service: Service) -> str:
    return (service.home / "service.log").read_text()


def end(service: Service) -> float:
    """By SIGTERM -> the seconds that took."""
    assert service.process is not None
    began = time.monotonic()
    os.kill(service.process.pid, signal.SIGTERM)
    assert service.process.wait(120) == 0
    service.process = None
    return time.monotonic() - began


def test_processes_send_their_own_spans_jobs_are_linked_and_no_collector_holds_up_the_end(
    service: Service, collector: Collector
) -> None:
    service.start(set_up=False)
    creator, job_id = begin_job(service, collector)
    check_processes(service, collector)
    check_job(service, collector, creator, job_id)

    last = ask(service)
    end(service)
    assert collector.roots(last.headers["x-request-id"]), "the last spans are sent before the service ends"
    assert service.worker_pids() == []

    collector.mood = "hangs"
    service.environment |= {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
    service.environment |= {"VITRINE_API_WORKERS": "1", "VITRINE_RUN_WORKER": "false"}
    said = len(log_of(service))
    service.start(set_up=False)
    exports = collector.exports
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(service), range(FLOOD)))
    assert collector.exports - exports <= 30, "one at a time, and none is waited for"
    assert all(float(answer.headers["x-queue-time"]) < 30_000 for answer in answers)
    assert spans_of(service)["dropped"] > 2 * FLOOD
    assert end(service) < GRACE_SECONDS + 20
    told = log_of(service)[said:]
    assert "spans could not be sent" in told
    assert told.count('"logger": "opentelemetry') <= 2, "one record a minute"


def spans_of(service: Service) -> dict[str, int]:
    """What became of them, by their outcome."""
    lines = httpx.get(f"{service.url}/metrics", timeout=60).text.splitlines()
    found = [line for line in lines if line.startswith("vitrine_spans_total{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in found}


def begin_job(service: Service, collector: Collector) -> tuple[Told, str]:
    """-> the span of the request that made it, its id."""
    rows = "".join(json.dumps({"text": f"red cat {n}", "label": "x" if n % 2 else "y"}) + "\n" for n in range(24))
    files = {"file": ("rows.jsonl", rows), "purpose": (None, "fine-tune")}
    file = httpx.post(f"{service.url}/v1/files", files=files, timeout=60).json()["id"]
    wanted = {"model": BASE, "training_file": file, "hyperparameters": {"n_epochs": 1, "batch_size": 8}}
    made = httpx.post(f"{service.url}/v1/fine_tuning/jobs", json=wanted, timeout=60).raise_for_status()
    return root_of(collector, made), made.json()["id"]


def check_processes(service: Service, collector: Collector) -> None:
    instances: set[str] = set()
    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(service), range(16)))
        instances |= {root_of(collector, answer).resource["service.instance.id"] for answer in answers}
        if len(instances) == 2:
            return
    raise AssertionError(f"all requests were answered by {instances}")


def check_job(service: Service, collector: Collector, creator: Told, job_id: str) -> None:
    assert creator.known["vitrine.job"] == job_id
    wait_for(lambda: bool(collector.named("job")), JOB_SECONDS, lambda: log_of(service)[-3000:])
    (job,) = collector.named("job")
    assert job.links == ((creator.trace, creator.id),)
    assert job.trace != creator.trace
    assert job.known.items() >= {"vitrine.job": job_id, "vitrine.status": "succeeded", "vitrine.attempt": 1}.items()
    assert not job.failed
    assert (job.resource["service.name"], job.resource["vitrine.role"]) == ("vitrine", "worker")
    parts = {part.name: part for part in collector.below(job)}
    assert [name for name in parts if name != "publish checkpoint"] == [
        "check data",
        "choose recipe",
        "train",
        "publish",
    ]
    assert parts["check data"].known["vitrine.rows"] + 2 >= 20
    assert parts["train"].known["vitrine.step"] > 0
    assert all(job.began <= part.began <= part.ended <= job.ended for part in parts.values())
    lines = [json.loads(line) for line in log_of(service).splitlines() if line.startswith("{")]
    assert [line for line in lines if line.get("trace_id") == job.trace and line.get("job") == job_id]
