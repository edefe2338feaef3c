"""What a worker finds in uploads, while their owners do as they like with them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import service.jobs.checks
from service.errors import NotFound
from service.ids import new_id
from service.jobs.worker import Worker
from tests.test_service_results import settings, worker

__all__ = ["settings", "worker"]  # fixtures

ROWS = b'{"text": "red cat", "label": "a"}\n{"text": "blue dog", "label": "b"}\n' * 5


def upload(worker: Worker) -> str:
    file_id = new_id("file")
    worker.store.add_file(file_id, "rows.jsonl", worker.files.write(file_id, io.BytesIO(ROWS)), "fine-tune")
    return file_id


def delete_once_read(monkeypatch: pytest.MonkeyPatch, worker: Worker, file_id: str) -> None:
    """As its owner does, at the moment when its bytes have been read."""
    real: Callable[..., Any] = service.jobs.checks.read_source

    def reading(path: Path, filename: str) -> Any:
        found = real(path, filename)
        if path.name == file_id:
            worker.store.delete_file(file_id)
            worker.files.delete(file_id)
        return found

    monkeypatch.setattr(service.jobs.checks, "read_source", reading)


def test_a_file_that_is_deleted_while_it_is_checked_stops_no_worker(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted, next_one = upload(worker), upload(worker)
    delete_once_read(monkeypatch, worker, deleted)
    assert worker.work_once()
    with pytest.raises(NotFound):
        worker.store.file(deleted)
    while worker.work_once():
        pass
    assert worker.store.file(next_one).status == "processed"
    assert worker.store.report(next_one, "tiny").report is not None


def test_of_a_file_that_is_deleted_while_its_report_is_made_nothing_is_kept(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before, amid = upload(worker), upload(worker)
    for file_id in (before, amid):
        worker.checks.check_file(worker.store.file(file_id))
    worker.store.delete_file(before)
    worker.checks.make_report(before, "tiny")  # whoever asked the store for the next one came before
    delete_once_read(monkeypatch, worker, amid)
    assert worker.work_once()
    assert not worker.work_once()
    assert worker.store.pending_report() is None
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [], "it is no fault"


def test_a_file_without_bytes_is_said_to_have_none(worker: Worker) -> None:
    unchecked, checked = upload(worker), upload(worker)
    worker.checks.check_file(worker.store.file(checked))
    for file_id in (unchecked, checked):
        worker.files.delete(file_id)
    while worker.work_once():
        pass
    told = "the bytes of this file are gone; upload it again"
    assert worker.store.file(unchecked).faults == [told]
    assert worker.store.report(checked, "tiny").error == told
