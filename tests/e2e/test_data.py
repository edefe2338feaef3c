"""Training data over real HTTP: the report in its three forms, warnings, and a tagging job whose model then tags."""

import io
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.conftest import Rows, Service, wait_for, write_jsonl
from tests.e2e.test_jobs import client_of, wait_until
from tests.test_service_errors import check_envelope
from tests.test_training_report import check_self_contained

M = "minilm-l6"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def upload(client: openai.OpenAI, path: Path) -> str:
    return client.files.create(file=path.open("rb"), purpose="fine-tune").id


def report_of(service: Service, file_id: str, **options: Any) -> httpx.Response:
    """Waits while it is being made, as an openai client would."""
    answers: list[httpx.Response] = []

    def ready() -> bool:
        answers.append(httpx.get(f"{service.url}/v1/files/{file_id}/report", timeout=60, **options))
        assert answers[-1].status_code in (200, 409), answers[-1].text
        if answers[-1].status_code == 409:
            assert answers[-1].json()["error"]["code"] == "processing"
            assert answers[-1].headers["retry-after"] == "1"
            assert "x-should-retry" not in answers[-1].headers
        return answers[-1].status_code == 200

    wait_for(ready, 300, lambda: answers[-1].text)
    return answers[-1]


def test_the_report_of_an_upload_in_three_forms(service: Service, movie_rows: Rows, tmp_path: Path) -> None:
    client = client_of(service)
    rows = [*movie_rows[:300], movie_rows[0], {"text": "一部好电影", "label": "positive"}]
    file_id = upload(client, write_jsonl(tmp_path / "rows.jsonl", rows))
    report = report_of(service, file_id).json()
    assert report["object"] == "data_report"
    assert report["name"] == "rows.jsonl"
    assert report["task"] == "classification"
    assert report["rows"] == {"read": 302, "kept": 302, "faulty": 0}
    assert report["duplicates"]["exact"]["rows"] == 1
    assert report["vocabulary"]["size"] == 30_522
    page = report_of(service, file_id, headers={"accept": "text/html,image/png,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    check_self_contained(page.text)
    picture = report_of(service, file_id, params={"format": "png"})
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).width == 1_680
    assert report_of(service, file_id, headers={"accept": "image/png"}).content == picture.content
    file = httpx.get(f"{service.url}/v1/files/{file_id}").json()
    assert file["task"] == "classification"
    assert any("repeats an earlier one" in warning for warning in file["warnings"])
    for path, status in (
        ("file-x/report", 404),
        (f"{file_id}/report?model=nope", 404),
        (f"{file_id}/report?format=pdf", 400),
    ):
        answer = httpx.get(f"{service.url}/v1/files/{path}")
        assert answer.status_code == status
        check_envelope(answer)
    assert client.files.delete(file_id).deleted
    assert httpx.get(f"{service.url}/v1/files/{file_id}/report").status_code == 404


def test_a_faulty_upload_has_a_report_too(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "label": "a"}\nnope\n{"text": "", "label": "b"}\n')
    report = report_of(service, upload(client_of(service), path)).json()
    assert [fault["line"] for fault in report["faults"]][:2] == [2, 3]


def test_a_tagging_job_makes_a_model_that_tags(service: Service, tmp_path: Path) -> None:
    client = client_of(service)
    cities, verbs = ["Paris", "London", "Rome", "Berlin", "Madrid"], ["likes", "sees", "leaves", "visits"]
    names = ["Anna", "Ben", "Carl", "Dora", "Emil", "Fay", "Gus", "Hana"]
    rows: Any = [
        {"tokens": [name, verb, city, "today"], "tags": ["B-PERSON", "O", "B-PLACE", "O"]}
        for name in names for verb in verbs for city in cities
    ]  # fmt: skip
    file_id = upload(client, write_jsonl(tmp_path / "rows.jsonl", [*rows, rows[0]]))
    body = {"task": "tagging"}
    job = client.fine_tuning.jobs.create(
        model=M, training_file=file_id, suffix="tagger", hyperparameters={"n_epochs": 3, "batch_size": 16, "learning_rate_multiplier": 5}, extra_body=body,
    )  # fmt: skip
    wait_until(client, job.id, {"succeeded", "failed"}, 240)
    done = httpx.get(f"{service.url}/v1/fine_tuning/jobs/{job.id}").json()
    assert done["status"] == "succeeded", done["error"]
    assert done["task"] == "tagging"
    assert done["metrics"]["span_f1"] > 0.9
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    assert any(event.level == "warn" and "repeats an earlier one" in event.message for event in events)
    fields = {"model": done["fine_tuned_model"], "input": "Anna visits Rome today"}
    answer = httpx.post(f"{service.url}/v1/tag", json=fields, timeout=60).json()
    found = [(tag["label"], tag["text"]) for tag in answer["data"][0]["tags"]]
    assert found == [("PERSON", "Anna"), ("PLACE", "Rome")]


def test_a_task_that_the_columns_do_not_have_fails_the_job(service: Service, movie_rows: Rows, tmp_path: Path) -> None:
    client = client_of(service)
    file_id = upload(client, write_jsonl(tmp_path / "rows.jsonl", movie_rows[:20]))
    wait_for(lambda: client.files.retrieve(file_id).status == "processed", 300)
    job = client.fine_tuning.jobs.create(model=M, training_file=file_id, extra_body={"task": "tagging"})
    assert job.status == "validating_files"
    wait_until(client, job.id, {"failed"}, 60)
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.error is not None
    assert "needs 'tokens' and 'tags'" in str(failed.error.message)
    with pytest.raises(openai.BadRequestError, match="task"):
        client.fine_tuning.jobs.create(model=M, training_file=file_id, extra_body={"task": "magic"})
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in movie_rows[:5]))
    plain = upload(client, text)
    wait_for(lambda: client.files.retrieve(plain).status == "processed", 300)
    with pytest.raises(openai.BadRequestError, match="vitrine pretrain"):
        client.fine_tuning.jobs.create(model=M, training_file=plain)
