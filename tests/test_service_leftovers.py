"""What is left of files on a host: what goes, and what must stay."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import service.jobs.leftovers
from service.app import create_app
from service.batches import BatchStore
from service.database import Database
from service.files import FileStorage
from service.ids import new_id
from service.jobs.errands import Errands
from service.jobs.leftovers import remove_leftovers
from service.jobs.store import JobStore
from service.settings import Settings
from tests.conftest import wait_for

HOUR = 3_600.0
DAY = 24 * HOUR
Hosts = Callable[[str], Settings]


@pytest.fixture
def host(tmp_path: Path) -> Hosts:
    """Hosts by name, each with a disk of its own -> their settings."""
    shared = {"artefacts": f"file://{tmp_path}/network-disk", "database": f"sqlite:///{tmp_path}/rows.sqlite"}
    return lambda name: Settings(home=tmp_path / name, default_model="tiny", run_worker=False, device="cpu", **shared)


@pytest.fixture
def store(host: Hosts) -> Iterator[JobStore]:
    database = Database(host("any").database_url)
    yield JobStore(database)
    database.close()


def upload(settings: Settings, store: JobStore, purpose: str = "fine-tune") -> str:
    file_id = new_id("file")
    store.add_file(file_id, "rows.jsonl", FileStorage.of(settings).write(file_id, io.BytesIO(b"rows")), purpose)
    return file_id


def pass_time(settings: Settings, seconds: float) -> None:
    """For all that lies in the folders that the sweep looks at."""
    for folder in (settings.files, settings.shared):
        for path in folder.iterdir() if folder.is_dir() else ():
            moment = path.stat().st_mtime - seconds
            os.utime(path, (moment, moment))


def left(settings: Settings) -> set[str]:
    """After the errand."""
    database = Database(settings.database_url)
    Errands(settings, database).remove_leftovers()
    database.close()
    return {path.name for path in settings.files.iterdir()}


def test_a_file_deleted_on_one_host_goes_from_all_that_have_read_it(host: Hosts, store: JobStore) -> None:
    front, trainer = host("front"), host("trainer")
    deleted, expired, kept = (upload(front, store) for _ in range(3))
    for file_id in (deleted, expired, kept):
        assert FileStorage.of(trainer).path(file_id).read_bytes() == b"rows"
    back = FileStorage.of(host("back"))
    for file_id in (deleted, expired):
        store.delete_file(file_id)
        back.delete(file_id)
    for settings in (front, trainer):
        assert left(settings) == {deleted, expired, kept}, "not within the hour: it may be about to have its row"
        pass_time(settings, HOUR + 60)
        assert left(settings) == {kept}


def test_a_result_that_has_no_row_yet_is_there_when_it_has(host: Hosts, store: JobStore) -> None:
    """A worker that wrote it was killed; the one that goes on writes it again, and tells the store."""
    settings, file_id = host("trainer"), new_id("file")
    FileStorage.of(settings).write(file_id, io.BytesIO(b"result"))
    assert left(settings) == {file_id}
    pass_time(settings, 2 * HOUR)
    assert left(settings) == set()
    assert FileStorage.of(settings).path(file_id).read_bytes() == b"result", "it was a copy"
    FileStorage.of(settings).write(file_id, io.BytesIO(b"result"))
    store.add_file(file_id, "result", 6, "batch")
    pass_time(settings, 2 * HOUR)
    assert left(settings) == {file_id}


def test_what_a_host_had_before_it_shared_stays(host: Hosts, store: JobStore) -> None:
    """Its rows may be in the database of before."""
    alone = Settings(home=host("first").home)
    FileStorage.of(alone).write("file-before", io.BytesIO(b"rows"))
    pass_time(alone, HOUR)
    shared = upload(host("first"), store)
    store.delete_file(shared)
    pass_time(host("first"), DAY + HOUR)
    assert left(host("first")) == {"file-before"}


def test_on_a_host_alone_only_what_killed_processes_left_goes(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    files = FileStorage.of(settings)
    files.write("file-without-row", io.BytesIO(b"rows"))
    (settings.files / ".file-killed.tmp").write_bytes(b"ro")
    (settings.files / "notes.txt").write_bytes(b"an operator's")
    pass_time(settings, 2 * HOUR)
    assert left(settings) == {"file-without-row", ".file-killed.tmp", "notes.txt"}, "a slow disk may still write it"
    pass_time(settings, DAY)
    (settings.files / ".file-new.tmp").write_bytes(b"ro")
    assert left(settings) == {"file-without-row", ".file-new.tmp", "notes.txt"}


def test_a_copy_that_was_never_whole_goes_after_a_day(host: Hosts, store: JobStore) -> None:
    settings, file_id = host("trainer"), upload(host("front"), store)
    FileStorage.of(settings).path(file_id)
    (settings.files / f".{file_id}.0a1b2c3d.part").write_bytes(b"ro")
    pass_time(settings, 2 * HOUR)
    assert left(settings) == {file_id, f".{file_id}.0a1b2c3d.part"}
    pass_time(settings, DAY)
    assert left(settings) == {file_id}


def test_answers_of_a_batch_stay_until_it_has_ended(host: Hosts, store: JobStore) -> None:
    settings = host("front")
    batches = BatchStore(store._database)
    input_file = upload(settings, store, "batch")
    batch = batches.create("local", "/v1/classify", input_file, {}, None)
    answers = {f".{batch.id}.output", f".{batch.id}.errors"}
    for name in answers:
        (settings.files / name).write_bytes(b"{}\n")
    pass_time(settings, 2 * HOUR)
    assert left(settings) == {input_file, *answers}, "it waits for a worker"
    assert batches.claim("elsewhere", 15.0) is not None
    batches.cancel("local", batch.id)
    assert left(settings) == {input_file, *answers}, "whoever has it ends it with what is answered"
    assert batches.finish(batch.id, "elsewhere", "cancelled")
    assert left(settings) == {input_file}


def test_a_file_that_comes_amid_the_look_is_not_judged(host: Hosts, store: JobStore) -> None:
    files = FileStorage.of(host("front"))
    before = upload(host("front"), store)
    rows: list[str] = []

    class Slow(JobStore):
        def open_batches(self) -> set[str]:
            rows.append(upload(host("front"), store))
            pass_time(host("front"), 2 * HOUR)
            store.delete_file(rows[0])  # and goes again
            return super().open_batches()

    pass_time(host("front"), 2 * HOUR)
    remove_leftovers(files, Slow(store._database))
    assert {path.name for path in files.folder.iterdir()} == {before, *rows}


def test_a_host_without_a_worker_does_it_too(host: Hosts, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.jobs.leftovers, "SECONDS_BETWEEN", 0.05)
    settings = host("front")
    kept, deleted = (upload(settings, store) for _ in range(2))
    store.delete_file(deleted)
    pass_time(settings, 2 * HOUR)
    _, gate = create_app(settings)
    with TestClient(gate, base_url="http://localhost"):
        wait_for(lambda: not (settings.files / deleted).exists(), 60)
        assert (settings.files / kept).is_file()
