"""Bulk prediction: every request answered once, in order, whatever dies; live requests never wait for it."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import service.bulk
import service.engine.reading
from service.batches import BatchStore
from service.bulk import BulkWorker, check_requests
from service.database import Database
from service.engine.engine import BULK_BATCH_TOKENS
from service.errors import Busy, Conflict, InvalidRequest, NotFound
from service.ids import new_id
from service.jobs.announce import EVENT_TYPES
from service.jobs.store import JobStore
from service.routes.inference import ROUTES
from tests.conftest import wait_for
from tests.house import House, house
from tests.test_service_jobs_store import Clock

__all__ = ["house"]  # a fixture
MOOD = "ft:tiny:vitrine:mood:1"


def request(number: int, **fields: Any) -> dict[str, Any]:
    body = {"model": MOOD, "input": f"red cat {number}"}
    return {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/classify", "body": body} | fields


def upload(house: House, rows: list[Any], headers: dict[str, str] | None = None) -> str:
    content = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
    files = {"file": ("requests.jsonl", io.BytesIO(content)), "purpose": (None, "batch")}
    file = house.ask("POST", "/v1/files", headers or house.ann, files=files).json()
    assert file["status"] == "processed"
    return str(file["id"])


def create(house: House, rows: list[Any], endpoint: str = "/v1/classify", **fields: Any) -> Any:
    body = {"input_file_id": upload(house, rows), "endpoint": endpoint, "completion_window": "24h"} | fields
    return house.ask("POST", "/v1/batches", house.ann, json=body).json()


def wait(house: House, batch_id: str, *states: str) -> Any:
    deadline = time.monotonic() + 60
    while (batch := house.ask("GET", f"/v1/batches/{batch_id}", house.ann).json())["status"] not in states:
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def lines_of(house: House, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    text = house.ask("GET", f"/v1/files/{file_id}/content", house.ann).text
    return [json.loads(line) for line in text.splitlines()]


def test_answers_are_those_of_the_route_and_errors_have_a_file_of_their_own(house: House) -> None:
    rows = [request(number) for number in range(70)]
    rows[5]["body"] = {"model": "none", "input": "x"}
    rows[6]["body"] = {"model": MOOD, "input": ""}
    rows[7]["body"] = {"model": MOOD, "input": "x", "nonsense": 1}
    made = create(house, rows, metadata={"team": "a"}, output_expires_after={"anchor": "created_at", "seconds": 7200})
    assert (made["object"], made["status"], made["metadata"]) == ("batch", "validating", {"team": "a"})
    batch = wait(house, made["id"], "completed")
    assert batch["request_counts"] == {"total": 70, "completed": 67, "failed": 3}
    assert batch["created_at"] <= batch["in_progress_at"] <= batch["completed_at"] <= batch["expires_at"]
    answers, errors = lines_of(house, batch["output_file_id"]), lines_of(house, batch["error_file_id"])
    assert [line["custom_id"] for line in answers] == [f"r-{number}" for number in range(70) if number not in (5, 6, 7)]
    live = house.ask("POST", "/v1/classify", house.ann, json=rows[9]["body"]).json()
    (bulk,) = [line["response"] for line in answers if line["custom_id"] == "r-9"]
    assert bulk["status_code"] == 200
    assert bulk["body"]["data"][0]["label"] == live["data"][0]["label"]
    assert bulk["body"]["data"][0]["score"] == pytest.approx(live["data"][0]["score"], abs=1e-5)
    assert [(line["custom_id"], line["response"]["status_code"]) for line in errors] == [("r-5", 404), ("r-6", 400), ("r-7", 400)]  # fmt: skip
    assert "'none' does not exist" in errors[0]["response"]["body"]["error"]["message"]
    assert "nonsense" in errors[2]["response"]["body"]["error"]["message"]
    assert batch["tokens"] == sum(line["response"]["body"]["usage"]["total_tokens"] for line in answers)
    file = house.ask("GET", f"/v1/files/{batch['output_file_id']}", house.ann).json()
    assert file["purpose"] == "batch_output"
    assert file["expires_at"] == pytest.approx(batch["completed_at"] + 7200, abs=120)
    assert not list(house.settings.files.glob(".batch-*")), "nothing is left over"


def test_embeddings_too_and_a_model_of_another_owner_is_not_there(house: House) -> None:
    rows = [
        {
            "custom_id": "a",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "tiny", "input": ["red", "cat"]},
        },
    ]
    batch = wait(house, create(house, rows, "/v1/embeddings")["id"], "completed")
    (line,) = lines_of(house, batch["output_file_id"])
    assert len(line["response"]["body"]["data"]) == 2
    assert batch["error_file_id"] is None
    file = upload(house, [request(1)], house.bob)
    body = {"input_file_id": file, "endpoint": "/v1/classify", "completion_window": "24h"}
    made = house.ask("POST", "/v1/batches", house.bob, json=body).json()
    deadline = time.monotonic() + 30
    while (own := house.ask("GET", f"/v1/batches/{made['id']}", house.bob).json())["status"] != "completed":
        assert time.monotonic() < deadline
    assert own["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    assert own["output_file_id"] is None
    for path in (f"/v1/batches/{made['id']}", f"/v1/files/{own['error_file_id']}"):
        assert house.ask("GET", path, house.ann).status_code == 404


FAULTS = [  # a line, and what is said of it
    ("not json", "this line is no JSON object"),
    ("[1]", "this line is no JSON object"),
    ("[" * 100_000, "this line is no JSON object"),
    ('{"custom_id": ' + "[" * 900 + "]" * 900 + "}", "in this line lists and objects stand in each other more than 32"),
    (request(1, custom_id=5), "custom_id must be a text"),
    (request(1, custom_id=""), "custom_id must be a text"),
    (request(0), "custom_id 'r-0' stands in line 1 already"),
    (request(1, method="GET"), "method is 'GET'; it must be 'POST'"),
    (request(1, url="/v1/embeddings"), "url is '/v1/embeddings'; this batch is for '/v1/classify'"),
    (request(1, body="x"), "body must be an object"),
    (json.dumps(request(1)) + " " * (4 * 2**20), "the limit is 4194304"),
]


@pytest.mark.parametrize(("row", "words"), FAULTS, ids=[words for _, words in FAULTS])
def test_faults_of_a_file_are_told_with_their_lines(house: House, row: Any, words: str) -> None:
    batch = wait(house, create(house, [request(0), "", row])["id"], "failed")
    assert [error["line"] for error in batch["errors"]["data"]] == [3], "empty lines count"
    assert words in batch["errors"]["data"][0]["message"]
    assert batch["request_counts"]["completed"] == 0
    assert batch["failed_at"] is not None


def test_a_batch_whose_file_is_gone_from_the_disk_fails_with_the_remedy(house: House) -> None:
    file = upload(house, [request(1)])
    (house.settings.files / file).unlink()
    body = {"input_file_id": file, "endpoint": "/v1/classify", "completion_window": "24h"}
    batch = wait(house, house.ask("POST", "/v1/batches", house.ann, json=body).json()["id"], "failed")
    (error,) = batch["errors"]["data"]
    assert (error["code"], "upload it again" in error["message"]) == ("file_not_found", True)


def test_an_empty_file_and_a_long_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "requests"
    path.write_text("\n \n")
    assert check_requests(path, "/v1/classify")[1][0]["code"] == "empty_file"
    monkeypatch.setattr(service.bulk, "MAX_REQUESTS", 3)
    path.write_text("".join(json.dumps(request(number)) + "\n" for number in range(5)))
    assert check_requests(path, "/v1/classify")[1][0]["message"] == "the file has more than 3 requests; split it"


def test_what_can_not_be_a_batch_is_refused(house: House) -> None:
    body = {"input_file_id": house.file, "endpoint": "/v1/classify", "completion_window": "24h"}
    answer = house.ask("POST", "/v1/batches", house.ann, json=body)
    assert (answer.status_code, "upload requests with purpose 'batch'" in answer.text) == (400, True)
    file = upload(house, [request(1)])
    for wrong in ({"endpoint": "/v1/completions"}, {"completion_window": "1h"}, {"input_file_id": 5}):
        assert (
            house.ask("POST", "/v1/batches", house.ann, json=body | {"input_file_id": file} | wrong).status_code == 400
        )
    job = {"model": "tiny", "training_file": file}
    assert "has the purpose 'batch'" in house.ask("POST", "/v1/fine_tuning/jobs", house.ann, json=job).text


def test_a_cancelled_batch_keeps_what_was_answered_and_its_file_is_free_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bulk, "TOGETHER", 2)
    made = create(house, [request(number) for number in range(3_000)])
    while not house.ask("GET", f"/v1/batches/{made['id']}", house.ann).json()["request_counts"]["completed"]:
        time.sleep(0.01)
    refused = house.ask("DELETE", f"/v1/files/{made['input_file_id']}", house.ann)
    assert (refused.status_code, "cancel the batch first" in refused.text) == (409, True)
    assert house.ask("POST", f"/v1/batches/{made['id']}/cancel", house.ann).json()["status"] == "cancelling"
    batch = wait(house, made["id"], "cancelled")
    counts = batch["request_counts"]
    assert 0 < counts["completed"] < counts["total"] == 3_000
    assert len(lines_of(house, batch["output_file_id"])) == counts["completed"]
    assert house.ask("POST", f"/v1/batches/{made['id']}/cancel", house.ann).status_code == 409
    assert house.ask("DELETE", f"/v1/files/{made['input_file_id']}", house.ann).status_code == 200


def test_live_requests_are_answered_while_a_batch_runs_and_before_it(house: House) -> None:
    """Counted in forward passes, not in seconds: between a live request and its own at most one of bulk work
    begins on each core."""
    engine = house.app.state.parts.engine
    seen: list[str] = []
    live: set[int] = set()
    answer, put_all = engine._answer, engine._queue.put_all

    def running(batch: list[Any], most_threads: int) -> Any:
        kind = "live" if any(id(item) in live for item in batch) else "bulk"
        assert kind == "live" or sum(item.num_tokens for item in batch) <= BULK_BATCH_TOKENS
        seen.append(kind)
        return answer(batch, most_threads)

    def putting(items: list[Any]) -> None:
        live.update(map(id, items))
        seen.append("put")
        put_all(items)

    engine._answer, engine._queue.put_all = running, putting
    try:
        made = create(house, [request(number) for number in range(5_000)])
        wait(house, made["id"], "in_progress")
        bulk_passes = 0
        end, asked = time.monotonic() + 60, 0
        while asked < 20 or not (bulk_passes or time.monotonic() > end):
            asked += 1
            seen.clear()
            body = {"model": MOOD, "input": "blue dog"}
            assert house.ask("POST", "/v1/classify", house.ann, json=body).status_code == 200
            between = seen[seen.index("put") : seen.index("live")]
            assert between.count("bulk") <= engine._cores.count, "those that were taken out already"
            bulk_passes += seen.count("bulk")
        assert bulk_passes, "there was bulk work to wait for"
        house.ask("POST", f"/v1/batches/{made['id']}/cancel", house.ann)
    finally:
        engine._answer, engine._queue.put_all = answer, put_all
    wait(house, made["id"], "cancelled", "completed")


def test_a_batch_whose_worker_dies_is_gone_on_with_and_no_answer_is_lost_or_doubled(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker is stopped dead amid its writes, again and again; the next cuts off what it had not reported."""
    monkeypatch.setattr(service.bulk, "TOGETHER", 7)
    monkeypatch.setattr(service.bulk, "LEASE_SECONDS", 0.3)
    real = service.bulk.Answers.add
    calls = []

    def dying(self: Any, results: Any) -> None:
        real(self, results)
        calls.append(1)
        if len(calls) % 3 == 0:
            raise OSError("as if the process were gone: written, never reported")

    monkeypatch.setattr(service.bulk.Answers, "add", dying)
    rows = [request(number) for number in range(100)]
    rows[50]["body"] = {"model": "none", "input": "x"}
    made = create(house, rows)
    batch = wait(house, made["id"], "completed")
    assert len(calls) > 100 / 7 + 3, "it died several times"
    answers, errors = lines_of(house, batch["output_file_id"]), lines_of(house, batch["error_file_id"])
    assert [line["custom_id"] for line in answers] == [f"r-{number}" for number in range(100) if number != 50]
    assert [line["custom_id"] for line in errors] == ["r-50"]
    assert batch["request_counts"] == {"total": 100, "completed": 99, "failed": 1}


# ---- the store, on both databases


def test_two_workers_never_have_the_same_batch_and_a_day_ends_it(database_url: str) -> None:
    clock = Clock()
    jobs, store = JobStore(Database(database_url), clock), BatchStore(Database(database_url), clock)
    ids = []
    for _ in range(3):
        file_id = new_id("file")
        jobs.of("ann").add_file(file_id, "requests.jsonl", 9, "batch")
        ids.append(store.create("ann", "/v1/classify", file_id, {}, None).id)
    with pytest.raises(NotFound):
        store.create("bob", "/v1/classify", file_id, {}, None)
    jobs.add_file("file-rows", "rows.jsonl", 9, "fine-tune")
    with pytest.raises(InvalidRequest, match="purpose 'fine-tune'"):
        store.create("local", "/v1/classify", "file-rows", {}, None)
    first, second = store.claim("v", 10), store.claim("w", 10)
    assert [batch.id for batch in (first, second) if batch] == ids[:2]
    assert store.begin(ids[0], "w", 5) is None, "not w's"
    assert store.begin(ids[0], "v", 5) == "in_progress"
    clock.now += 11
    again = store.claim("w", 10)
    assert again is not None
    assert again.id == ids[0]
    assert store.keep(ids[0], "v", None, 10) is None
    assert not store.finish(ids[0], "v", "completed")
    store.cancel("ann", ids[0])
    assert store.keep(ids[0], "w", None, 10) == "cancelling"
    assert store.finish(ids[0], "w", "cancelled")
    with pytest.raises(Conflict, match="has cancelled"):
        store.cancel("ann", ids[0])
    store.release("w")
    page, more = store.batches("ann", None, 2)
    assert ([batch.id for batch in page], more) == (ids[:0:-1], True)
    assert [batch.id for batch in store.batches("ann", page[-1].id, 2)[0]] == ids[:1]
    jobs._database.close()
    store._database.close()


@pytest.mark.parametrize("skew", [60.0, 3_600.0])
def test_hosts_whose_clocks_differ_leave_each_other_their_batches(postgresql: Callable[[], str], skew: float) -> None:
    url, lease = postgresql(), 0.9 * skew
    JobStore(Database(url)).of("ann").add_file("file-1", "requests.jsonl", 9, "batch")
    slow, fast = BatchStore(Database(url)), BatchStore(Database(url))
    fast.clock = lambda: time.time() + skew
    for holder, other in ((slow, fast), (fast, slow)):
        batch = holder.create("ann", "/v1/classify", "file-1", {}, None)
        claimed = holder.claim("holder", lease)
        assert claimed is not None
        for _ in range(3):
            assert other.claim("other", lease) is None
            assert holder.keep(batch.id, "holder", None, lease) == "validating"
        assert holder.keep(batch.id, "holder", None, 0.0) == "validating"
        wait_for(lambda store=other: store.claim("other", lease) is not None, 60)  # type: ignore[misc]
        assert holder.keep(batch.id, "holder", None, lease) is None
        assert other.finish(batch.id, "other", "completed")
    for store in (slow, fast):
        store._database.close()


def test_an_owner_with_many_open_batches_is_asked_to_come_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.batches.MAX_OPEN", 1)
    first = create(house, [request(number) for number in range(3_000)])
    body = {"input_file_id": first["input_file_id"], "endpoint": "/v1/classify", "completion_window": "24h"}
    second = house.ask("POST", "/v1/batches", house.ann, json=body)
    assert (second.status_code, second.headers["retry-after"]) == (429, "60")
    assert "1 of your batches have not ended, which is the limit" in second.text
    house.ask("POST", f"/v1/batches/{first['id']}/cancel", house.ann)
    wait(house, first["id"], "cancelled", "completed")
    third = house.ask("POST", "/v1/batches", house.ann, json=body)
    assert third.status_code == 200
    house.ask("POST", f"/v1/batches/{third.json()['id']}/cancel", house.ann)
    wait(house, third.json()["id"], "cancelled", "completed")  # else the next test's waits behind it


def test_an_expired_batch_ends_with_what_it_has(house: House) -> None:
    parts = house.app.state.parts
    file_id = upload(house, [request(number) for number in range(3)])
    clock_was = parts.batches.clock
    parts.batches.clock = lambda: time.time() - 25 * 3600
    try:
        made = parts.batches.create("ann", "/v1/classify", file_id, {}, None)
    finally:
        parts.batches.clock = clock_was
    batch = wait(house, made.id, "expired")
    assert batch["request_counts"] == {"total": 3, "completed": 0, "failed": 0}
    assert batch["expired_at"] is not None


def test_the_ends_of_a_batch_are_announced() -> None:
    assert {"batch.completed", "batch.failed", "batch.expired", "batch.cancelled"} <= set(EVENT_TYPES)


def test_a_process_that_stops_gives_its_batch_back(house: House) -> None:
    """Cancelled amid a batch, as at the service's end; another worker goes on at once, not when the lease is over."""
    parts = house.app.state.parts
    worker = BulkWorker(parts, ROUTES)

    async def short_life() -> None:
        task = asyncio.create_task(worker.run())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    made = create(house, [request(number) for number in range(200)])
    threading.Thread(target=lambda: asyncio.run(short_life())).start()
    batch = wait(house, made["id"], "completed")
    assert batch["request_counts"]["completed"] == 200


def test_a_worker_that_dies_between_the_files_and_the_end_loses_no_answer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bulk, "LEASE_SECONDS", 0.3)
    finish, calls = BatchStore.finish, []

    def dying(*arguments: Any, **more: Any) -> bool:
        calls.append(1)
        if len(calls) <= 2:
            raise OSError("as if the process were gone")
        return finish(*arguments, **more)

    monkeypatch.setattr(BatchStore, "finish", dying)
    batch = wait(house, create(house, [request(number) for number in range(40)])["id"], "completed")
    assert len(calls) == 3
    answers = lines_of(house, batch["output_file_id"])
    assert [line["custom_id"] for line in answers] == [f"r-{number}" for number in range(40)]
    assert not list(house.settings.files.glob(".batch-*"))


def test_a_batch_whose_answers_are_gone_from_the_disk_begins_anew(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.bulk, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(service.bulk, "TOGETHER", 8)
    real, calls = service.bulk.Answers.add, []

    def losing(self: Any, results: Any) -> None:
        real(self, results)
        calls.append(1)
        if len(calls) == 3:
            self.output.unlink()
            raise OSError("as if the disk were another one")

    monkeypatch.setattr(service.bulk.Answers, "add", losing)
    batch = wait(house, create(house, [request(number) for number in range(40)])["id"], "completed")
    assert [line["custom_id"] for line in lines_of(house, batch["output_file_id"])] == [f"r-{n}" for n in range(40)]
    assert batch["request_counts"] == {"total": 40, "completed": 40, "failed": 0}


def test_requests_that_fit_the_queue_only_one_by_one_are_all_answered(house: House) -> None:
    """One that does not even fit alone is told so."""
    engine = house.app.state.parts.engine
    most = engine._queue.max_tokens
    engine._queue.max_tokens = engine._bulk_queue.max_tokens = 40
    try:
        rows = [request(number) for number in range(33)]
        rows[4]["body"]["input"] = ["red cat"] * 30
        batch = wait(house, create(house, rows)["id"], "completed")
    finally:
        engine._queue.max_tokens = engine._bulk_queue.max_tokens = most
    assert batch["request_counts"] == {"total": 33, "completed": 32, "failed": 1}
    (error,) = lines_of(house, batch["error_file_id"])
    assert (error["custom_id"], error["response"]["status_code"]) == ("r-4", 413)
    assert "the limit is 40" in error["response"]["body"]["error"]["message"]


def test_requests_wait_for_live_ones_that_fill_the_reader(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = house.app.state.parts.engine.reader
    reading, go_on = threading.Event(), threading.Event()
    real = service.engine.reading._read

    def slow(first: Any, parts: Any) -> Any:
        if any("dog" in text for part in parts for text in part):
            reading.set()
            assert go_on.wait(60)
        return real(first, parts)

    monkeypatch.setattr(service.engine.reading, "_read", slow)
    monkeypatch.setattr(reader, "_max_characters", 20)
    statuses: list[int] = []

    def live() -> None:
        body = {"model": MOOD, "input": "a dog that is longer than the limit"}
        statuses.append(house.ask("POST", "/v1/classify", house.ann, json=body).status_code)

    threads = [threading.Thread(target=live) for _ in range(2)]
    try:
        threads[0].start()
        assert reading.wait(60)
        threads[1].start()
        wait_for(lambda: len(reader._line) == 1, 60)
        made = create(house, [request(number) for number in range(8)])
        wait_for(lambda: len(reader._line) == 9, 60)
    finally:
        go_on.set()
    assert wait(house, made["id"], "completed")["request_counts"] == {"total": 8, "completed": 8, "failed": 0}
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]


def test_a_request_that_is_refused_is_asked_again_while_its_batch_is_kept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = house.app.state.parts
    submit, keep = parts.engine.submit, parts.batches.keep
    refused, kept = [0], [0]
    let_in = threading.Event()

    async def busy(*given: Any) -> Any:
        if not let_in.is_set():
            refused[0] += 1
            raise Busy("no room; try again later")
        return await submit(*given)

    def keeping(batch_id: str, name: str, done: Any, seconds: float) -> Any:
        kept[0] += refused[0] > 4 and done is None
        return keep(batch_id, name, done, seconds)

    monkeypatch.setattr(parts.engine, "submit", busy)
    monkeypatch.setattr(parts.batches, "keep", keeping)
    monkeypatch.setattr(service.bulk, "LEASE_SECONDS", 4.0)
    monkeypatch.setattr(service.bulk, "POLL_SECONDS", 0.01)
    made = create(house, [request(number) for number in range(4)])
    wait_for(lambda: refused[0] > 8 and kept[0] > 1, 60, lambda: (refused, kept))
    let_in.set()
    assert wait(house, made["id"], "completed")["request_counts"] == {"total": 4, "completed": 4, "failed": 0}


def test_a_mistake_of_ours_ends_one_batch_and_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(service.bulk.Answers, "add", lambda *_: 1 / 0)
        batch = wait(house, create(house, [request(1)])["id"], "failed")
    assert batch["errors"]["data"][0]["code"] == "internal"
    assert wait(house, create(house, [request(1)])["id"], "completed")["request_counts"]["completed"] == 1
