"""The whole life of a job with the unmodified client, and what no crash may lose."""

import csv
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Rows, Service, new_home, wait_for, write_jsonl
from tests.faults import Faults

M = "minilm-l6"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]  # a slow machine may take three times as long


def client_of(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def submit(client: openai.OpenAI, file: Path, epochs: int, suffix: str, batch_size: int = 32) -> str:
    uploaded = client.files.create(file=file.open("rb"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=M, training_file=uploaded.id, suffix=suffix, hyperparameters={"n_epochs": epochs, "batch_size": batch_size},
        extra_body={"training_method": "fine_tune"},  # with few rows quicker than the few-shot method
    )  # fmt: skip
    return job.id


def wait_until(client: openai.OpenAI, job_id: str, states: set[str], seconds: float) -> None:
    wait_for(
        lambda: client.fine_tuning.jobs.retrieve(job_id).status in states,
        seconds,
        lambda: client.fine_tuning.jobs.retrieve(job_id),
    )


def check_results(client: openai.OpenAI, names: list[str]) -> None:
    """What a client that only knows OpenAI's API gets to see of a job's results."""
    files = [client.files.retrieve(name) for name in names]
    assert [(file.filename, file.purpose, file.status) for file in files] == [
        (name, "fine-tune-results", "processed")
        for name in ("step_metrics.csv", "evaluation.html", "evaluation.json", "predictions.csv")
    ]
    metrics, page, report, predictions = (client.files.content(name) for name in names)
    assert metrics.text.startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    assert page.text.startswith("<!doctype html>")
    assert page.response.headers["content-type"] == "application/octet-stream", "never rendered on our origin"
    evaluation = json.loads(report.text)
    assert evaluation["versus"]["baseline"] == "TF-IDF"
    assert evaluation["dynamics"]["rows"] == evaluation["training_rows"]
    rows = list(csv.DictReader(io.StringIO(predictions.text, newline="")))
    assert (
        sum(row["true"] == row["predicted"] for row in rows) / evaluation["rows"] == evaluation["figures"]["accuracy"]
    )


def upload_slowly(service: Service) -> tuple[bytes, int]:
    """One upload over 72 seconds -> the raw answer and the file's size."""
    row = b'{"text": "' + b"slow but sure " * 1500 + b'", "label": "a"}\n'  # 10 kB a second, well over the least
    head = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    head += b'--x\r\ncontent-disposition: form-data; name="file"; filename="slow.jsonl"\r\n\r\n'
    tail = b"--x--\r\n"
    size = len(head) + 36 * len(row) + 2 + len(tail)
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(
            f"POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1:{service.port}\r\nconnection: close\r\n"
            f"content-type: multipart/form-data; boundary=x\r\ncontent-length: {size}\r\n\r\n".encode()
            + head
        )
        for _ in range(36):
            time.sleep(2)
            connection.sendall(row)
        connection.sendall(b"\r\n" + tail)
        answer = connection.makefile("rb").read()
    return answer, 36 * len(row)


@pytest.fixture(scope="module")
def slow_upload(service: Service) -> Iterator["Future[tuple[bytes, int]]"]:
    """Runs beside the other tests of this file; the last one looks at its answer."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(upload_slowly, service)


@pytest.mark.usefixtures("slow_upload")
def test_upload_tune_follow_classify(service: Service, movie_rows: Rows, tmp_path: Path) -> None:
    client = client_of(service)
    failures: list[int] = []
    stop = threading.Event()

    def keep_asking() -> None:  # live traffic while the job runs and its model appears
        while not stop.is_set():
            answer = httpx.post(f"{service.url}/v1/embeddings", json={"model": M, "input": "hello"}, timeout=60)
            if answer.status_code != 200:
                failures.append(answer.status_code)
            time.sleep(0.05)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        job_id = submit(client, write_jsonl(tmp_path / "rows.jsonl", movie_rows[:600]), 2, "Movie Mood")
        wait_until(client, job_id, {"succeeded", "failed"}, 500)
        job = client.fine_tuning.jobs.retrieve(job_id)
        assert job.status == "succeeded", job.error
        name = job.fine_tuned_model
        assert name is not None
        assert name.startswith("ft:minilm-l6:vitrine:movie-mood:")
        answers = [
            httpx.post(f"{service.url}/v1/classify", json={"model": name, "input": text}, timeout=60)
            for text in ["A wonderful, moving film.", "Dull, stupid and far too long."] * 4
        ]  # at once, on both API workers, with no restart
    finally:
        stop.set()
        asking.join()
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [answer.json()["data"][0]["label"] for answer in answers] == ["positive", "negative"] * 4
    assert not failures
    events = [*client.fine_tuning.jobs.list_events(job_id, limit=5)]  # pages by itself
    assert len({event.id for event in events}) == len(events)
    assert events[0].message.startswith("The job has succeeded")
    assert [event.message.split()[0] for event in events[1:4]] == ["Writing", "Fitting", "Judging"]
    assert events[-1].message == "Created fine-tuning job"
    losses = [event.data["train_loss"] for event in reversed(events) if "train_loss" in (event.data or {})]  # type: ignore[operator, index]
    assert losses[-1] < losses[0]
    assert job.trained_tokens is not None
    assert job.trained_tokens > 10_000
    check_results(client, job.result_files)
    model = client.models.retrieve(name)
    assert model.id == name
    attention = httpx.post(f"{service.url}/v1/attention", json={"model": name, "input": "good"}).json()
    assert attention["shape"] == [6, 12, 3, 3]
    assert client.models.delete(name).deleted
    body = {"model": name, "input": "good"}
    wait_for(  # gone from both API workers
        lambda: {httpx.post(f"{service.url}/v1/classify", json=body).status_code for _ in range(12)} == {404}, 60
    )
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(name)


def test_cancel_stops_a_running_job_and_frees_its_file(service: Service, movie_rows: Rows, tmp_path: Path) -> None:
    client = client_of(service)
    job_id = submit(client, write_jsonl(tmp_path / "rows.jsonl", movie_rows[:600]), 10, "never")
    wait_for(lambda: httpx.get(f"{service.url}/v1/fine_tuning/jobs/{job_id}").json()["progress"] is not None, 300)
    job = client.fine_tuning.jobs.cancel(job_id)
    assert job.status == "cancelled"
    with pytest.raises(openai.ConflictError, match="has cancelled"):
        client.fine_tuning.jobs.cancel(job_id)
    assert client.files.delete(job.training_file).deleted
    other = submit(client, write_jsonl(tmp_path / "few.jsonl", movie_rows[:64]), 1, "next")
    wait_until(client, other, {"succeeded"}, 300)  # the worker let the cancelled one go
    assert client.fine_tuning.jobs.retrieve(job_id).status == "cancelled"


def events_of_stream(
    service: Service, job_id: str, last: str | None = None, most: int = 10_000
) -> list[dict[str, Any]]:
    """As a browser's EventSource reads them; stops after so many, as one that loses its connection."""
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    found: list[dict[str, Any]] = []
    with httpx.stream(
        "GET", f"{service.url}/v1/fine_tuning/jobs/{job_id}/events", headers=headers, timeout=120
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
            elif line.startswith("id: "):
                assert line.removeprefix("id: ").startswith("ftevent-")
            if len(found) == most:
                break
    return found


def test_pause_resume_checkpoints_and_the_stream_of_events(service: Service, movie_rows: Rows, tmp_path: Path) -> None:
    client = client_of(service)
    file = client.files.create(
        file=write_jsonl(tmp_path / "rows.jsonl", movie_rows[:160]).open("rb"), purpose="fine-tune",
        expires_after={"anchor": "created_at", "seconds": 7_200},
    )  # fmt: skip
    assert file.expires_at == file.created_at + 7_200
    job = client.fine_tuning.jobs.create(
        model=M,
        training_file=file.id,
        metadata={"who": "stream"},
        hyperparameters={"n_epochs": 3, "batch_size": 16},
        extra_body={"training_method": "fine_tune"},
    )
    first = events_of_stream(service, job.id, most=3)
    wait_for(lambda: httpx.get(f"{service.url}/v1/fine_tuning/jobs/{job.id}").json()["progress"] is not None, 300)
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"  # type: ignore[comparison-overlap]
    with pytest.raises(openai.ConflictError, match="is paused"):
        client.fine_tuning.jobs.pause(job.id)
    before = httpx.get(f"{service.url}/v1/fine_tuning/jobs/{job.id}").json()["progress"]["step"]
    other = submit(client, write_jsonl(tmp_path / "few.jsonl", movie_rows[:64]), 1, "meanwhile")
    wait_until(client, other, {"succeeded"}, 300)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "paused"  # type: ignore[comparison-overlap]
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    rest = events_of_stream(service, job.id, last=first[-1]["id"])  # until the job has ended
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    listed = [event.id for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert [event["id"] for event in first + rest] == listed[::-1], "every event once, in order, over two connections"
    steps = [event["data"]["step"] for event in first + rest if "train_loss" in event["data"]]
    assert steps == sorted(set(steps)), "no step is made twice"
    assert before < steps[-1] == 3 * -(-int(160 * 0.9) // 16), "it was paused amid the run"
    stopped = httpx.get(
        f"{service.url}/v1/fine_tuning/jobs/{job.id}/events",
        headers={"accept": "text/event-stream", "last-event-id": rest[-1]["id"]},
    )
    assert stopped.status_code == 204, "a browser does not ask again"
    checkpoints = [*client.fine_tuning.jobs.checkpoints.list(job.id, limit=2)]  # pages by itself
    assert len(checkpoints) == 3
    steps = [one.step_number for one in checkpoints]
    assert steps == sorted(steps, reverse=True)
    for one in checkpoints:
        body = {"model": one.fine_tuned_model_checkpoint, "input": "A wonderful, moving film."}
        answer = httpx.post(f"{service.url}/v1/classify", json=body, timeout=60)
        assert answer.json()["data"][0]["label"] in ("positive", "negative"), answer.text
        assert one.metrics.step == one.step_number
        assert one.metrics.full_valid_mean_token_accuracy is not None
        assert one.metrics.train_loss is not None
    texts = ["A wonderful, moving film.", "Dull, stupid and far too long.", "The actors are good.", "A mess."]
    answer = httpx.post(f"{service.url}/v1/drift", json={"job": job.id, "input": texts}, timeout=60)
    frames = answer.json()["frames"]
    assert [frame["step"] for frame in frames] == [0, *steps[::-1], None], answer.text
    assert frames[0]["predictions"] == [None] * 4
    assert set(frames[-1]["predictions"]) <= {"positive", "negative"}
    assert frames[1]["moved"] > 0
    found = client.fine_tuning.jobs.list(metadata={"who": "stream"})
    assert [item.id for item in found] == [job.id]
    assert client.fine_tuning.jobs.list(metadata={"who": "nobody"}).data == []


@pytest.fixture
def fragile(tmp_path: Path, cache: Path) -> Iterator[Service]:
    """A service of its own, to be killed."""
    running = Service(new_home(tmp_path, cache), VITRINE_LEASE_SECONDS="3").start()
    yield running
    running.stop()


def test_kill_9_of_the_worker_and_of_the_service_lose_nothing(
    fragile: Service, movie_rows: Rows, tmp_path: Path, faults: Faults
) -> None:
    client = client_of(fragile)
    long_job = submit(client, write_jsonl(tmp_path / "rows.jsonl", movie_rows[:140]), 3, "long", batch_size=8)
    short_job = submit(client, write_jsonl(tmp_path / "few.jsonl", movie_rows[:64]), 1, "short")

    def step() -> int:
        progress = httpx.get(f"{fragile.url}/v1/fine_tuning/jobs/{long_job}").json()["progress"]
        return int(progress["step"]) if progress else 0

    wait_for(lambda: step() >= 10, 400, step)
    (worker,) = fragile.worker_pids()
    os.kill(worker, signal.SIGKILL)
    events_before = {event.id for event in client.fine_tuning.jobs.list_events(long_job, limit=100)}
    wait_for(lambda: len(fragile.worker_pids()) == 1 and fragile.worker_pids() != [worker], 60)
    wait_for(lambda: step() >= 20, 400, step)
    fragile.kill()  # -9, with one job running and one queued
    wait_for(lambda: not fragile.worker_pids(), 60)
    fragile.set_up()  # which changes nothing
    fragile.start()
    for job_id in (long_job, short_job):
        wait_until(client, job_id, {"succeeded", "failed"}, 500)
        job = client.fine_tuning.jobs.retrieve(job_id)
        assert job.status == "succeeded", job.error
        answer = httpx.post(
            f"{fragile.url}/v1/classify", json={"model": job.fine_tuned_model, "input": "good"}, timeout=60
        )
        assert answer.status_code == 200
    events = [*client.fine_tuning.jobs.list_events(long_job, limit=100)]
    assert events_before <= {event.id for event in events}, "no event is lost"
    steps = [event.data["step"] for event in events if "train_loss" in (event.data or {})]  # type: ignore[operator, index]
    assert steps == sorted(set(steps), reverse=True), "no step is reported twice"
    assert steps[0] == 3 * -(-int(140 * 0.9) // 8)
    died, left = (sum(word in event.message for event in events) for word in ("worker of this job died", "was stopped"))
    assert died >= 1, "the worker that was killed"
    assert died + left == 2, "what is left of a killed service may still let its worker go in good order"
    assert len(client.files.list(purpose="fine-tune").data) == 2
    results = [
        name for job_id in (long_job, short_job) for name in client.fine_tuning.jobs.retrieve(job_id).result_files
    ]
    kept = [file.id for file in client.files.list(purpose="fine-tune-results")]
    assert sorted(kept) == sorted(results), "each result once, whatever died"
    assert len(results) == 8
    curve = csv.DictReader(io.StringIO(client.files.content(results[0]).text))
    assert [int(row["step"]) for row in curve if row["train_loss"]] == steps[::-1], "the curve has no gap"
    ends = [client.fine_tuning.jobs.retrieve(job_id).status for job_id in (long_job, short_job)]
    faults.saw(
        "kill -9 of the worker amid a job, then of the whole service with one job running and one waiting",
        f"jobs ended {', '.join(ends)}; {len(steps)} steps, each told once; {len(events_before)} events of before the "
        f"kill all there; {len(kept)} result files",
    )


def test_an_upload_of_seventy_seconds_is_not_cut(slow_upload: "Future[tuple[bytes, int]]") -> None:
    answer, size = slow_upload.result(timeout=120)
    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
    assert f'"bytes":{size}'.encode() in answer
