"""What a program that only knows OpenAI's API does, with whichever version of the official client stands on the path. Run
by `e2e/test_contract.py` in a process of its own.

    python tests/contract.py URL KEY READER_KEY HASTY_KEY ROWS
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

BASE = "minilm-l6"
said: list[str] = []


def say(what: str) -> None:
    said.append(what)
    print(f"ok: {what}", flush=True)


def refused(kind: type[openai.APIStatusError], call: Any, words: str) -> None:
    """The call raises the client's own exception of this kind, with these words."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert type(error) is kind
    assert words in str(error)
    assert error.request_id
    say(f"{kind.__name__} ({error.status_code}): {words}")


def files(client: openai.OpenAI, rows: Path) -> str:
    before = [file.id for file in client.files.list(purpose="fine-tune")]
    uploads = [client.files.create(file=rows.open("rb"), purpose="fine-tune") for _ in range(3)]
    ready = client.files.wait_for_processing(uploads[0].id, poll_interval=0.2, max_wait_seconds=300)
    assert ready.status == "processed"
    assert ready.bytes == rows.stat().st_size
    newest = [file.id for file in client.files.list(limit=1, purpose="fine-tune")]  # pages by itself
    assert newest == [*(upload.id for upload in reversed(uploads)), *before]
    oldest = [file.id for file in client.files.list(limit=2, order="asc", purpose="fine-tune")]
    assert oldest == newest[::-1]
    assert client.files.content(uploads[0].id).read() == rows.read_bytes()
    assert client.files.retrieve(uploads[1].id).filename == rows.name
    assert client.files.delete(uploads[2].id).deleted
    refused(openai.NotFoundError, lambda: client.files.retrieve(uploads[2].id), "does not exist")
    refused(openai.BadRequestError, lambda: client.files.create(file=b"", purpose="fine-tune"), "0 bytes")
    wrong: Any = "assistants"
    refused(openai.BadRequestError, lambda: client.files.create(file=b"x", purpose=wrong), "purpose is 'assistants'")
    client.files.delete(uploads[1].id)
    say("files: upload, wait, list both ways in pages, retrieve, content, delete")
    return uploads[0].id


def job(client: openai.OpenAI, file: str) -> Any:
    jobs = client.fine_tuning.jobs
    made = jobs.create(
        model=BASE, training_file=file, suffix="contract", seed=7, metadata={"suite": "contract"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 8}}},
        extra_body={"training_method": "fine_tune"},  # with few rows quicker than the few-shot method
    )  # fmt: skip
    assert made.object == "fine_tuning.job"
    assert made.seed == 7
    assert made.metadata == {"suite": "contract"}
    refused(openai.ConflictError, lambda: jobs.resume(made.id), "only a paused job")
    refused(openai.ConflictError, lambda: client.files.delete(file), "cancel the job first")
    wait(lambda: any("Step 10/" in event.message for event in jobs.list_events(made.id, limit=50)), "the first steps")
    assert jobs.pause(made.id).status == "paused"  # type: ignore[comparison-overlap]
    refused(openai.ConflictError, lambda: jobs.pause(made.id), "is paused")
    assert jobs.resume(made.id).status == "queued"
    wait(lambda: jobs.retrieve(made.id).status in ("succeeded", "failed"), "the job's end", 400)
    done = jobs.retrieve(made.id)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model
    assert done.trained_tokens
    assert done.finished_at
    assert done.finished_at >= done.created_at
    assert done.hyperparameters.n_epochs == 3
    assert done.method
    assert done.method.type == "supervised"
    few = [event.id for event in jobs.list_events(made.id, limit=3)]
    many = [event.id for event in jobs.list_events(made.id, limit=100)]
    assert few == many
    assert len(set(many)) == len(many) > 6
    assert [item.id for item in jobs.list(limit=1, metadata={"suite": "contract"})] == [made.id]
    assert client.files.content(done.result_files[0]).text.startswith("step,train_loss")
    say("jobs: create, events in pages, pause, resume, retrieve, list by metadata, result files")
    checkpoints = list(jobs.checkpoints.list(made.id, limit=1))
    assert len(checkpoints) == 3
    assert checkpoints[0].step_number > checkpoints[1].step_number
    for one in checkpoints:
        assert one.fine_tuning_job_id == made.id
        assert one.metrics.full_valid_mean_token_accuracy is not None
        answer = classify(client, one.fine_tuned_model_checkpoint)
        assert answer["data"][0]["label"] in ("positive", "negative")
    say("checkpoints: listed in pages, each of them classifies")
    other = jobs.create(model=BASE, training_file=file)
    assert jobs.cancel(other.id).status == "cancelled"
    refused(openai.ConflictError, lambda: jobs.cancel(other.id), "has cancelled")
    refused(openai.NotFoundError, lambda: jobs.retrieve("ftjob-none"), "does not exist")
    dpo: Any = {"type": "dpo"}
    refused(openai.BadRequestError, lambda: jobs.create(model=BASE, training_file=file, method=dpo), "'dpo'")
    refused(openai.NotFoundError, lambda: jobs.create(model="gpt-9", training_file=file), "'gpt-9' does not exist")
    return done


def classify(client: openai.OpenAI, model: str) -> Any:
    body = {"model": model, "input": "A wonderful, moving film."}
    return client.post("/classify", body=body, cast_to=object)


def models(client: openai.OpenAI, tuned: str) -> None:
    assert {BASE, tuned} <= {model.id for model in client.models.list()}
    found = client.models.retrieve(tuned)
    assert (found.id, found.object) == (tuned, "model")
    client.post(f"/models/{tuned}/promote", body={"alias": "contract"}, cast_to=object)
    assert classify(client, "contract")["data"][0]["label"] == classify(client, tuned)["data"][0]["label"]
    refused(openai.ConflictError, lambda: client.models.delete(tuned), "the alias contract stands for")
    client.delete("/aliases/contract", cast_to=object)
    assert client.models.delete(tuned).deleted
    refused(openai.NotFoundError, lambda: client.models.retrieve(tuned), "does not exist")
    refused(openai.ConflictError, lambda: client.models.delete(BASE), "is a base model")
    say("models: list, retrieve, an alias, delete")


def embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model=BASE, input=["one", "two"])  # the client asks for base64
    assert [len(item.embedding) for item in found.data] == [384, 384]
    assert found.usage.total_tokens > 0
    refused(openai.BadRequestError, lambda: client.embeddings.create(model=BASE, input=""), "empty")
    say("embeddings")


def batches(client: openai.OpenAI, folder: Path) -> None:
    requests = folder / "requests.jsonl"
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/embeddings", "body": {"model": BASE, "input": f"text {n}"}}
        for n in range(20)
    ]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    uploaded = client.files.create(file=requests.open("rb"), purpose="batch")
    made = client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/embeddings", completion_window="24h", metadata={"of": "contract"}
    )
    wait(lambda: client.batches.retrieve(made.id).status == "completed", "the batch's end")
    done = client.batches.retrieve(made.id)
    assert done.request_counts
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (20, 20, 0)
    assert done.output_file_id
    answers = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in lines]
    assert made.id in {batch.id for batch in client.batches.list(limit=1)}
    refused(openai.ConflictError, lambda: client.batches.cancel(made.id), "has completed")
    say("batches: create, retrieve, list, output")


def wait(condition: Any, what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        time.sleep(0.25)


@contextmanager
def using_up(url: str, key: str) -> Iterator[None]:
    """Others ask for what costs least with the same key: one client on a slow machine is never too fast alone."""
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
            while not over.is_set():
                client.get("/v1/whoami").read()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask)
        try:
            yield
        finally:
            over.set()


def main() -> None:
    url, key, reader_key, hasty_key, path = sys.argv[1:]
    rows = Path(path)

    def client_of(api_key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0)

    client = client_of(key)
    refused(openai.AuthenticationError, lambda: client_of("vt-wrong").models.list(), "the API key is not known")
    refused(
        openai.PermissionDeniedError, lambda: client_of(reader_key).files.delete("file-x"), "lacks the scope 'train'"
    )
    embeddings(client)
    file = files(client, rows)
    done = job(client, file)
    models(client, done.fine_tuned_model)
    batches(client, rows.parent)
    big = b"x" * (3 * 2**20)
    refused(openai.APIStatusError, lambda: client.files.create(file=big, purpose="fine-tune"), "split the file")
    assert client.files.delete(file).deleted
    hasty = client_of(hasty_key)

    def hurry() -> None:
        with using_up(url, hasty_key):
            while True:
                hasty.models.list()

    refused(openai.RateLimitError, hurry, "requests a minute came from 'hasty'")
    print(f"openai {openai.__version__}: {len(said)} checks")


if __name__ == "__main__":
    main()
