"""The result files of a job: what is in them, and that they are there once, whatever dies when."""

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import train_wordpiece
from model.weights import save_model
from service.errors import InvalidRequest
from service.jobs.results import OPENAI_COLUMNS, PURPOSE, metrics_csv
from service.jobs.store import new_id
from service.jobs.worker import Worker
from service.model_store import ModelStore
from service.settings import Settings
from service.tables import File, Job

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "电影", "好看"]
ROWS = [{"text": f"{a} {b} {c} {'cat ' * n}", "label": "暖" if a == "red" else "cold"} for a in WORDS[:3] for b in WORDS[3:6] for c in WORDS[6:10] for n in range(2)]  # fmt: skip


class Killed(BaseException):
    """As if the process were gone: no handler of the worker catches it."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home with a tiny base in its store."""
    settings = Settings(home=tmp_path / "home", default_model="tiny", lease_seconds=5, device="cpu")
    publish_base(ModelStore.of(settings))
    return settings


def publish_base(store: ModelStore) -> None:
    """A tiny one."""
    tokenizer = train_wordpiece([" ".join(WORDS)] * 5, 150)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=16, num_layers=1, num_heads=2, feed_forward_width=24, max_positions=32,
        num_segments=2, dropout=0.0, task="masked_lm",
    )  # fmt: skip
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        save_model(TextModel(config), tokenizer, Path(folder) / "base")
        store.publish(Path(folder) / "base", "tiny", "tiny:1", None, None)


@pytest.fixture
def worker(settings: Settings) -> Iterator[Worker]:
    made = Worker(settings)
    yield made
    made.database.close()


def submit(worker: Worker, checked: bool = True, **asked: object) -> str:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    file_id = new_id("file")
    size = worker.files.write(file_id, io.BytesIO(content))
    worker.store.add_file(file_id, "rows.jsonl", size, "fine-tune")
    if checked:
        worker.checks.check_once()
    parameters = {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 20.0, **asked}
    job = Job(id=new_id("ftjob"), model="tiny", training_file=file_id, seed=0, hyperparameters=parameters, meta={}, request_key=None)  # fmt: skip
    return worker.store.create_job(job, 10, None).id


def finish(worker: Worker, job_id: str) -> Job:
    for _ in range(10):
        if worker.store.job(job_id).status == "succeeded":
            break
        worker.work_once()
    return worker.store.job(job_id)


def result_rows(worker: Worker) -> list[File]:
    return worker.store.list_files(PURPOSE, None, 100, descending=False)[0]


def contents(worker: Worker, job: Job) -> dict[str, bytes]:
    rows = {row.id: row for row in result_rows(worker)}
    assert job.result_files is not None
    return {rows[name].filename: worker.files.path(name).read_bytes() for name in job.result_files}


def test_a_job_leaves_metrics_page_report_and_predictions(worker: Worker) -> None:
    job = finish(worker, submit(worker))
    files = contents(worker, job)
    assert list(files) == ["step_metrics.csv", "evaluation.html", "evaluation.json", "predictions.csv"]
    assert {(row.purpose, row.status) for row in result_rows(worker)} == {("fine-tune-results", "processed")}
    assert {row.filename: row.bytes for row in result_rows(worker)} == {name: len(own) for name, own in files.items()}
    table = list(csv.DictReader(io.StringIO(files["step_metrics.csv"].decode())))
    assert tuple(table[0])[:5] == OPENAI_COLUMNS
    assert [int(row["step"]) for row in table] == sorted({int(row["step"]) for row in table})
    report = json.loads(files["evaluation.json"])
    assert job.metrics is not None
    assert float(table[-1]["valid_mean_token_accuracy"]) == pytest.approx(
        [row for row in report["history"] if "valid_accuracy" in row][-1]["valid_accuracy"]
    )
    assert report["model"] == job.fine_tuned_model
    assert report["data"] == "the held-out part of rows.jsonl"
    assert report["dynamics"]["rows"] == report["training_rows"]
    assert [baseline["name"] for baseline in report["baselines"]] == ["majority", "TF-IDF"]
    page = files["evaluation.html"].decode()
    assert page.startswith("<!doctype html>")
    assert "Map of the training rows" in page
    predictions = list(csv.DictReader(io.StringIO(files["predictions.csv"].decode(), newline="")))
    assert len(predictions) == report["rows"]
    right = sum(row["true"] == row["predicted"] for row in predictions)
    assert right / len(predictions) == pytest.approx(report["headline"]["value"])


@pytest.mark.parametrize("moment", ["before the first file", "after the second file", "before the success"])
def test_a_worker_killed_at_the_end_leaves_each_file_once(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    job_id = submit(worker)
    calls = []

    def die_at(count: int, original: object) -> object:
        def maybe(*arguments: object, **more: object) -> object:
            calls.append(1)
            if len(calls) == count:
                raise Killed
            return original(*arguments, **more)  # type: ignore[operator]

        return maybe

    with monkeypatch.context() as patch:
        if moment == "before the success":
            patch.setattr(worker.store, "succeed", die_at(1, worker.store.succeed))
        else:
            count = 1 if moment == "before the first file" else 3
            patch.setattr(worker.files, "write", die_at(count, worker.files.write))
        with pytest.raises(Killed):
            finish(worker, job_id)
    assert worker.store.job(job_id).status == "running"
    assert result_rows(worker) == [], "nothing is told before the success"
    before = {path.name: path.read_bytes() for path in worker.settings.files.glob("file-*")}
    other = Worker(worker.settings)
    other.store.clock = lambda: worker.store.clock() + 60  # the lease has run out
    job = finish(other, job_id)
    files = contents(other, job)
    assert len(files) == len(result_rows(other)) == 4
    after = {path.name: path.read_bytes() for path in other.settings.files.glob("file-*")}
    assert before.items() <= after.items(), "the same bytes under the same ids"
    assert len(after) == 5  # with the training file
    other.database.close()


@pytest.mark.parametrize("deletes", [False, True])
def test_a_job_cancelled_at_the_end_leaves_none(worker: Worker, monkeypatch: pytest.MonkeyPatch, deletes: bool) -> None:
    """Also when whoever cancelled it has deleted the model already."""
    job_id = submit(worker)
    publish = worker.models.publish

    def cancel_meanwhile(folder: Path, name: str, *rest: object) -> None:
        publish(folder, name, *rest)  # type: ignore[arg-type]
        if ":ckpt-" not in name:
            worker.store.cancel_job(job_id)
            if deletes:
                worker.models.delete(name)

    monkeypatch.setattr(worker.models, "publish", cancel_meanwhile)
    while worker.work_once():
        pass
    assert worker.store.job(job_id).status == "cancelled"
    assert worker.store.job(job_id).result_files is None
    assert [model.id for model in worker.models.cards() if ":ckpt-" not in model.id] == ["tiny"]
    assert result_rows(worker) == []
    assert len(list(worker.settings.files.glob("file-*"))) == 1


def test_results_are_not_trained_on_and_outlive_their_deletion(worker: Worker) -> None:
    job = finish(worker, submit(worker))
    assert job.result_files is not None
    predictions = job.result_files[-1]
    wanted = Job(id=new_id("ftjob"), model="tiny", training_file=predictions, seed=0, hyperparameters={}, meta={}, request_key=None)  # fmt: skip
    with pytest.raises(InvalidRequest, match=r"\(predictions.csv\) has the purpose 'fine-tune-results'"):
        worker.store.create_job(wanted, 10, None)
    worker.store.delete_file(predictions)
    assert worker.store.job(job.id).result_files == job.result_files
    assert len(result_rows(worker)) == 3


def test_metrics_have_a_line_a_step_with_openais_columns_first() -> None:
    history = [
        {"step": 10, "train_loss": 0.9, "learning_rate": 0.1},
        {"step": 20, "train_loss": 0.5, "learning_rate": 0.05},
        {"step": 20, "valid_loss": 0.6, "valid_accuracy": 0.75},
        {"step": 25, "valid_loss": 0.4, "valid_accuracy": 0.8},
    ]
    assert metrics_csv(history).split("\r\n") == [
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,learning_rate,valid_accuracy",
        "10,0.9,,,,0.1,",
        "20,0.5,,0.6,0.75,0.05,0.75",
        "25,,,0.4,0.8,,0.8",
        "",
    ]
