"""Several processes that work batches off: whatever takes longer than a lease, each request is answered once and in
order. Two workers share one store here, each with a database connection of its own; times are scaled."""

import asyncio
import contextlib
import fcntl
import io
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

import service.bulk
from service.batches import BatchStore
from service.bulk import BulkWorker, check_requests
from service.context import Parts
from service.database import Database, sqlite_url
from service.direct import Route
from service.errors import Busy
from service.files import FileStorage
from service.ids import new_id
from service.jobs.store import JobStore
from service.tables import Batch
from tests.conftest import wait_for

LEASE_SECONDS = 0.6
NUM_REQUESTS = 60
PATIENCE_SECONDS = 60


class Request(BaseModel):
    input: str


class Answer(BaseModel):
    echo: str


async def echo(request: Request, parts: Parts, caller: object) -> Answer:
    return Answer(echo=request.input)


class Stalling(BatchStore):
    """Of a process that can be stalled: then its lease is not kept, and it does not know yet that it lost it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.goes_on = threading.Event()
        self.goes_on.set()

    def keep(self, *arguments: Any) -> str | None:
        self.goes_on.wait(PATIENCE_SECONDS)
        return super().keep(*arguments)


@dataclass
class Place:
    """A store and a folder of files, for any number of workers."""

    folder: Path
    databases: list[Database] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files = FileStorage(self.folder / "files")
        self.store = BatchStore(self._database())
        self.jobs = JobStore(self._database())

    def _database(self) -> Database:
        self.databases.append(Database(sqlite_url(self.folder / "store.sqlite")))
        return self.databases[-1]

    def worker(self, ask: Callable[..., Awaitable[BaseModel]] = echo) -> tuple[BulkWorker, Stalling]:
        store = Stalling(self._database())
        parts = cast(Parts, SimpleNamespace(batches=store, files=self.files))
        return BulkWorker(parts, [cast(Route, SimpleNamespace(path="/v1/classify", request=Request, ask=ask))]), store

    def batch(self) -> str:
        rows = [
            {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/classify", "body": {"input": f"text {number}"}}
            for number in range(NUM_REQUESTS)
        ]
        file_id = new_id("file")
        size = self.files.write(file_id, io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode()))
        self.jobs.of("ann").add_file(file_id, "requests.jsonl", size, "batch")
        return self.store.create("ann", "/v1/classify", file_id, {}, None).id

    def row(self, batch_id: str) -> Batch:
        return self.store.get("ann", batch_id)

    def wait(self, batch_id: str, status: str) -> Batch:
        wait_for(lambda: self.row(batch_id).status == status, PATIENCE_SECONDS, lambda: vars(self.row(batch_id)))
        return self.row(batch_id)

    def kept_for_a_lease(self, batch_id: str) -> None:
        """Waits until whoever has the batch has had it for longer than a lease that is not renewed."""
        begun = self.row(batch_id).lease_until
        wait_for(lambda: self.row(batch_id).lease_until > begun + LEASE_SECONDS, PATIENCE_SECONDS)

    def answered(self, batch_id: str) -> list[str]:
        """The ids in the output, in order."""
        file_id = self.row(batch_id).output_file
        assert file_id is not None
        return [json.loads(line)["custom_id"] for line in self.files.path(file_id).read_bytes().splitlines()]


IN_ORDER = [f"r-{number}" for number in range(NUM_REQUESTS)]
ADD = service.bulk.Answers.add


def dying_after_ten(self: service.bulk.Answers, results: Any) -> None:
    if self.done.completed:
        raise OSError("as if the process were gone")
    ADD(self, results)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(service.bulk, "LEASE_SECONDS", LEASE_SECONDS)
    monkeypatch.setattr(service.bulk, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(service.bulk, "TOGETHER", 10)
    made = Place(tmp_path)
    yield made
    for database in made.databases:
        database.close()


@contextlib.contextmanager
def running(*workers: BulkWorker) -> Iterator[None]:
    """Within, they work."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    tasks = [asyncio.run_coroutine_threadsafe(worker.run(), loop) for worker in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        asyncio.run_coroutine_threadsafe(_ended(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()


def test_a_file_whose_check_takes_longer_than_a_lease_is_worked_off(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place.batch()

    def long(*arguments: Any) -> Any:
        place.kept_for_a_lease(batch_id)
        return check_requests(*arguments)

    monkeypatch.setattr(service.bulk, "check_requests", long)
    with running(place.worker()[0], place.worker()[0]):
        place.wait(batch_id, "completed")
    assert place.answered(batch_id) == IN_ORDER


def test_requests_that_are_asked_one_by_one_for_longer_than_a_lease_are_all_answered(place: Place) -> None:
    batch_id = place.batch()
    asking: set[int] = set()  # of each process

    async def narrow(request: Request, parts: Parts, caller: object) -> Answer:
        """As a queue that has room for one request."""
        if id(parts) in asking:
            raise Busy("it does not fit", retry_after_seconds=1)
        asking.add(id(parts))
        try:
            if request.input == "text 1":
                await asyncio.to_thread(place.kept_for_a_lease, batch_id)
            return await echo(request, parts, caller)
        finally:
            await asyncio.sleep(0)  # the others of its group come while it is there
            asking.discard(id(parts))

    with running(place.worker(narrow)[0], place.worker(narrow)[0]):
        place.wait(batch_id, "completed")
    assert place.answered(batch_id) == IN_ORDER


def test_files_that_are_put_in_place_for_longer_than_a_lease_are_put_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = place.batch()
    write = FileStorage.write

    def long(self: FileStorage, file_id: str, source: Any) -> int:
        place.kept_for_a_lease(batch_id)
        return write(self, file_id, source)

    monkeypatch.setattr(FileStorage, "write", long)
    with running(place.worker()[0], place.worker()[0]):
        place.wait(batch_id, "completed")
    assert place.answered(batch_id) == IN_ORDER


def stalled_in_its_check(
    monkeypatch: pytest.MonkeyPatch, store: Stalling, until: Callable[[], bool]
) -> threading.Event:
    """Who checks the file first does not keep its lease, until others have come so far -> set when that has begun."""
    begun = threading.Event()

    def check(*arguments: Any) -> Any:
        if not begun.is_set():
            store.goes_on.clear()
            begun.set()
            wait_for(until, PATIENCE_SECONDS)
            store.goes_on.set()
        return check_requests(*arguments)

    monkeypatch.setattr(service.bulk, "check_requests", check)
    return begun


def test_who_lost_the_batch_while_it_checked_the_file_touches_no_answer(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch_id = place.batch()
    stalled, store = place.worker()
    lost = lambda: "was taken over" in caplog.text  # noqa: E731
    begun = stalled_in_its_check(monkeypatch, store, lambda: place.row(batch_id).completed > 0)

    def adding(self: Any, results: Any) -> None:
        if self.done.completed:
            wait_for(lost, PATIENCE_SECONDS)
        ADD(self, results)

    monkeypatch.setattr(service.bulk.Answers, "add", adding)
    with running(stalled):
        assert begun.wait(PATIENCE_SECONDS)
        with running(place.worker()[0]):
            place.wait(batch_id, "completed")
    assert place.answered(batch_id) == IN_ORDER


def test_who_lost_the_batch_touches_no_answer_either_where_nobody_has_them_open(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch_id = place.batch()
    stalled, store = place.worker()
    row = lambda: place.row(batch_id)  # noqa: E731
    begun = stalled_in_its_check(monkeypatch, store, lambda: row().completed == 10 and row().worker is None)
    with running(stalled):
        assert begun.wait(PATIENCE_SECONDS)
        with monkeypatch.context() as patch:
            patch.setattr(service.bulk.Answers, "add", dying_after_ten)
            with running(place.worker()[0]):
                wait_for(lambda: place.row(batch_id).completed == 10, PATIENCE_SECONDS)
        place.wait(batch_id, "completed")
    assert "was taken over" in caplog.text
    assert "begins anew" not in caplog.text
    assert place.answered(batch_id) == IN_ORDER


def test_who_was_stalled_amid_its_answers_writes_none_among_its_successors(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch_id = place.batch()
    stalled, store = place.worker()
    reached, refused = threading.Event(), threading.Event()
    locked = service.bulk.locked

    def adding(self: Any, results: Any) -> None:
        if self.done.completed and not reached.is_set():
            store.goes_on.clear()
            reached.set()
            assert refused.wait(PATIENCE_SECONDS)
        ADD(self, results)
        store.goes_on.set()

    def locking(descriptor: int) -> bool:
        got = locked(descriptor)
        if not got:
            refused.set()
        return got

    monkeypatch.setattr(service.bulk.Answers, "add", adding)
    monkeypatch.setattr(service.bulk, "locked", locking)
    with running(stalled):
        assert reached.wait(PATIENCE_SECONDS)
        with running(place.worker()[0]):
            place.wait(batch_id, "completed")
    assert refused.is_set()
    assert "was taken over" in caplog.text
    assert place.answered(batch_id) == IN_ORDER


def test_answers_that_a_hung_process_does_not_let_go_hold_up_no_other_batch(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = place.batch(), place.batch()
    with running(place.worker()[0]), open(place.files.folder / f".{first}.output", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        place.wait(second, "completed")
        assert place.row(first).status == "validating"
        assert f"which has lost batch {first}, still has its answers open after 0.6 s; end that process" in caplog.text
        fcntl.flock(held, fcntl.LOCK_UN)
        place.wait(first, "completed")
    assert place.answered(first) == IN_ORDER


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_a_batch_whose_check_never_ends_is_cancelled_and_expires_with_what_it_has(
    place: Place, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    batch_id = place.batch()
    given_up = threading.Event()

    def endless(*arguments: Any) -> Any:
        wait_for(arguments[2], PATIENCE_SECONDS)
        given_up.set()
        return 0, []

    with monkeypatch.context() as patch:
        patch.setattr(service.bulk.Answers, "add", dying_after_ten)
        with running(place.worker()[0]):
            wait_for(lambda: place.row(batch_id).completed == 10, PATIENCE_SECONDS)
    monkeypatch.setattr(service.bulk, "check_requests", endless)
    if end == "expired":
        with place.databases[0].write() as session:
            session.get_one(Batch, batch_id).expires_at = time.time()
    with running(place.worker()[0]):
        if end == "cancelled":
            place.store.cancel("ann", batch_id)
        place.wait(batch_id, end)
        assert given_up.wait(PATIENCE_SECONDS), "its thread is free again"
    assert place.answered(batch_id) == IN_ORDER[:10]
    place.jobs.of("ann").delete_file(place.row(batch_id).input_file)
    assert not list(place.files.folder.glob(".batch-*")), "nothing is left over"


def test_a_check_that_is_given_up_ends_at_its_next_line(tmp_path: Path) -> None:
    path = tmp_path / "requests"
    path.write_text("no JSON\n" * 100)
    assert check_requests(path, "/v1/classify", lambda: True) == (1, [])
