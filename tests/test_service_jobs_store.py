"""The job store under races, dead workers and repeated requests; time is a fake clock."""

import random
import sqlite3
import string
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.database import Database, sqlite_url
from service.errors import Busy, Conflict, InvalidRequest, NotFound
from service.jobs.figures import JobFigures
from service.jobs.store import DEMO_PRIORITY, JobStore, new_id, request_key
from service.tables import File, Job
from tests.conftest import wait_for
from tests.faults import Faults

pytestmark = pytest.mark.filterwarnings("error::sqlalchemy.exc.SADeprecationWarning")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[JobStore]:
    made = JobStore(Database(database_url), clock)
    yield made
    made._database.close()


def add_job(store: JobStore, priority: int = 0, checked: bool = True, key: str | None = None) -> Job:
    file_id = new_id("file")
    store.add_file(file_id, "rows.jsonl", 10, "fine-tune")
    if checked:
        store.set_file_checked(file_id, [], [], ["a", "b"], 10)
    job = Job(
        id=new_id("ftjob"),
        model="m",
        training_file=file_id,
        seed=0,
        hyperparameters={},
        priority=priority,
        request_key=key,
    )
    return store.create_job(job, 100, 600.0 if key else None)


def test_highest_priority_first_then_oldest(store: JobStore) -> None:
    demo, first, second = add_job(store, DEMO_PRIORITY), add_job(store), add_job(store)
    assert store.turns() == {first.id: 1, second.id: 2, demo.id: 3}
    claimed = [store.claim_job("w", 10) for _ in range(3)]
    assert [job.id for job in claimed if job] == [first.id, second.id, demo.id]
    assert store.claim_job("w", 10) is None


def test_a_leased_job_is_claimed_again_only_when_its_worker_fell_silent(store: JobStore, clock: Clock) -> None:
    job = add_job(store)
    assert store.claim_job("first", 10) is not None
    assert store.claim_job("second", 10) is None
    clock.now += 8
    assert store.heartbeat(job.id, "first", 10)
    clock.now += 8
    assert store.claim_job("second", 10) is None, "the heartbeat extended the lease"
    clock.now += 3
    taken = store.claim_job("second", 10)
    assert taken is not None
    assert taken.attempts == 2
    assert not store.heartbeat(job.id, "first", 10)
    assert not store.succeed(job.id, "first", "ft:x", {}, 1), "the first worker may not end it any more"
    assert store.succeed(job.id, "second", "ft:x", {}, 1)
    messages = [event.message for event in store.list_events(job.id, None, 10)[0]]
    assert any("died" in message for message in messages)


def test_repeated_events_count_once_and_page_newest_first(store: JobStore) -> None:
    job = add_job(store)
    for step in (10, 20, 10, 20, 30):
        store.add_event(job.id, f"step:{step}", f"step {step}", metrics={"step": step})
    page, more = store.list_events(job.id, None, 2)
    assert [event.data["step"] for event in page] == [30, 20]
    assert more
    rest, more = store.list_events(job.id, page[-1].id, 10)
    assert [event.message for event in rest] == ["step 10", "Created fine-tuning job"]
    assert not more


def test_cancel_takes_the_job_from_its_worker_and_only_once(store: JobStore) -> None:
    job = add_job(store)
    store.claim_job("w", 10)
    assert store.cancel_job(job.id).status == "cancelled"
    assert not store.set_progress(job.id, "w", progress={})
    with pytest.raises(Conflict, match="has cancelled"):
        store.cancel_job(job.id)


def test_an_automatic_retry_makes_no_second_job(store: JobStore) -> None:
    first = add_job(store, key="same")
    assert add_job(store, key="same").id == first.id
    assert add_job(store, key="other").id != first.id


def test_a_request_of_any_size_makes_one_job(store: JobStore) -> None:
    """PostgreSQL's indexes take values of 2,704 bytes after compression."""
    words = random.Random(1)
    large = {"metadata": {f"key-{n}": "".join(words.choices(string.ascii_letters, k=512)) for n in range(16)}}
    again = {"metadata": dict(reversed(large["metadata"].items()))}
    other = {"metadata": large["metadata"] | {"key-0": "other"}}
    first = add_job(store, key=request_key(large))
    assert add_job(store, key=request_key(again)).id == first.id
    assert add_job(store, key=request_key(other)).id != first.id


def test_known_faults_are_refused_with_all_their_words(store: JobStore) -> None:
    store.add_file("file-bad", "rows.jsonl", 10, "fine-tune")
    store.set_file_checked("file-bad", ["line 2: no 'label'", "line 9: not JSON"], [], [], 0)
    job = Job(id="ftjob-1", model="m", training_file="file-bad", seed=0, hyperparameters={}, priority=0)
    with pytest.raises(InvalidRequest, match=r"line 2.*line 9"):
        store.create_job(job, 100, None)
    with pytest.raises(NotFound):
        store.job("ftjob-1")


def test_unseen_validation_labels_are_refused(store: JobStore) -> None:
    for name, labels in (("file-t", ["a", "b"]), ("file-v", ["a", "z"])):
        store.add_file(name, name, 1, "fine-tune")
        store.set_file_checked(name, [], [], labels, 4)
    job = Job(
        id="ftjob-1",
        model="m",
        training_file="file-t",
        validation_file="file-v",
        seed=0,
        hyperparameters={},
        priority=0,
    )
    with pytest.raises(InvalidRequest, match="'z'"):
        store.create_job(job, 100, None)


def test_a_full_queue_and_a_file_in_use(store: JobStore) -> None:
    job = add_job(store)
    with pytest.raises(Conflict, match="cancel the job first"):
        store.delete_file(job.training_file)
    other = Job(id="ftjob-2", model="m", training_file=job.training_file, seed=0, hyperparameters={}, priority=0)
    with pytest.raises(Busy, match="the limit is 1"):
        store.create_job(other, 1, None)
    store.cancel_job(job.id)
    store.delete_file(job.training_file)


def test_requeued_job_keeps_its_place_and_attempts(store: JobStore) -> None:
    demo = add_job(store, DEMO_PRIORITY)
    store.claim_job("w", 10)
    assert not store.outranked(DEMO_PRIORITY)
    add_job(store)
    assert store.outranked(DEMO_PRIORITY)
    assert store.requeue(demo.id, "w")
    assert store.job(demo.id).status == "queued"
    assert store.job(demo.id).attempts == 0


def test_figures_tell_how_long_a_running_job_is_silent_and_a_dead_workers_lease_is_over(
    store: JobStore, clock: Clock
) -> None:
    add_job(store)
    clock.now += 500
    assert (store.figures().silent_seconds, store.figures().overdue_seconds) == (0, 0), "nobody works on it yet"
    job = store.claim_job("w", 10)
    assert job is not None
    clock.now += 8
    assert store.figures().silent_seconds == pytest.approx(8, abs=0.1)
    store.add_event(job.id, "step:1", "Step 1")
    assert store.figures().silent_seconds == pytest.approx(0, abs=0.1)
    assert store.figures().overdue_seconds == 0, "its lease holds"
    clock.now += 32
    assert store.figures().silent_seconds == pytest.approx(32, abs=0.1)
    assert store.figures().overdue_seconds == pytest.approx(30, abs=0.1)
    store.claim_job("other", 10)
    assert store.figures().overdue_seconds == 0, "taken over"
    store.fail(job.id, "other", "internal", "broken")
    assert store.figures() == JobFigures(store.figures().by_state)


def test_everything_is_there_after_a_reopen(store: JobStore, database_url: str) -> None:
    job = add_job(store)
    store._database.close()
    again = JobStore(Database(database_url))
    assert again.job(job.id).status == "queued"
    assert again.figures().by_state["queued"] == 1


def test_a_database_of_an_earlier_version_gets_the_new_columns(tmp_path: Path) -> None:
    database = tmp_path / "old.sqlite"
    with sqlite3.connect(database) as old:
        old.execute(
            "CREATE TABLE files (id VARCHAR(40) PRIMARY KEY, created_at FLOAT, filename VARCHAR, bytes INTEGER, "
            "purpose VARCHAR, status VARCHAR, faults JSON, training_faults JSON, labels JSON, num_rows INTEGER)"
        )
        values = ("file-1", 1.0, "a.jsonl", 5, "fine-tune", "processed", "[]", "[]", '["a", "b"]', 4)
        old.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    store = JobStore(Database(sqlite_url(database)))
    assert store.file("file-1").task is None
    assert store.file("file-1").warnings is None
    store.set_file_warnings("file-1", ["odd"])
    assert JobStore(Database(sqlite_url(database))).file("file-1").warnings == ["odd"]


def test_a_report_is_asked_for_once_answered_and_gone_with_its_file(store: JobStore) -> None:
    store.add_file("file-1", "rows.jsonl", 10, "fine-tune")
    assert store.report("file-1", "m").report is None
    assert store.pending_report() is None, "the file comes first"
    store.set_file_checked("file-1", [], [], ["a", "b"], 10, "classification", ["odd"])
    pending = store.pending_report()
    assert pending is not None
    assert (pending.file_id, pending.model) == ("file-1", "m")
    store.set_report("file-1", "m", {"rows": 1})
    assert store.pending_report() is None
    assert store.report("file-1", "m").report == {"rows": 1}
    store.report("file-1", "other")
    store.set_report("file-1", "other", None, "broken")
    assert store.pending_report() is None
    store.delete_file("file-1")
    with pytest.raises(NotFound):
        store.report("file-1", "m")


def test_files_of_two_tasks_do_not_go_together_and_another_task_is_left_to_the_worker(store: JobStore) -> None:
    for file_id, task in (("file-1", "tagging"), ("file-2", "regression")):
        store.add_file(file_id, "rows.jsonl", 10, "fine-tune")
        store.set_file_checked(file_id, [], ["all 3 rows have one score"] if file_id == "file-2" else [], [], 10, task)

    def job(training: str, validation: str | None, task: str | None) -> Job:
        return Job(
            id=new_id("ftjob"), model="m", training_file=training, validation_file=validation, seed=0,
            hyperparameters={"task": task}, priority=0, request_key=None,
        )  # fmt: skip

    with pytest.raises(InvalidRequest, match="its rows are for 'regression', those of the training file for 'tagging'"):
        store.create_job(job("file-1", "file-2", None), 100, None)
    with pytest.raises(InvalidRequest, match="one score"):
        store.create_job(job("file-2", None, "regression"), 100, None)
    assert store.create_job(job("file-2", None, "classification"), 100, None).status == "validating_files"
    assert store.create_job(job("file-1", None, "tagging"), 100, None).status == "queued"


def test_a_figure_that_the_files_rows_do_not_have_is_refused(store: JobStore) -> None:
    store.add_file("file-1", "rows.jsonl", 10, "fine-tune")
    store.set_file_checked("file-1", [], [], [], 10, "tagging")

    def job(**asked: str) -> Job:
        return Job(
            id=new_id("ftjob"), model="m", training_file="file-1", seed=0, hyperparameters=asked, priority=0,
            request_key=None,
        )  # fmt: skip

    with pytest.raises(InvalidRequest, match="metric is 'r2'; for tagging choose one of"):
        store.create_job(job(metric="r2"), 100, None)
    with pytest.raises(InvalidRequest, match="'few_shot', which learns one label a text, not 'tagging'"):
        store.create_job(job(training_method="few_shot"), 100, None)
    assert store.create_job(job(metric="span_f1"), 100, None).status == "queued"


# ---- pause and resume


def test_a_paused_job_waits_for_nobody_and_goes_on_at_the_place_of_its_age(store: JobStore) -> None:
    first, second = add_job(store), add_job(store)
    assert store.claim_job("w", 10).id == first.id  # type: ignore[union-attr]
    paused = store.pause_job(first.id)
    assert (paused.status, paused.worker, paused.attempts) == ("paused", None, 0)
    assert not store.holds(first.id, "w"), "its worker is told"
    assert not store.heartbeat(first.id, "w", 10)
    assert not store.fail(first.id, "w", "x", "y"), "the worker that let it go can't end it"
    assert paused.id not in store.turns()
    with pytest.raises(Conflict, match="is paused; only a job that waits or runs"):
        store.pause_job(first.id)
    with pytest.raises(Conflict, match="cancel the job first"):
        store.delete_file(first.training_file)
    assert store.claim_job("w", 10).id == second.id  # type: ignore[union-attr]
    assert store.claim_job("w", 10) is None
    assert store.resume_job(first.id).status == "queued"
    with pytest.raises(Conflict, match="its status is queued; only a paused job"):
        store.resume_job(first.id)
    assert store.claim_job("w", 10).id == first.id  # type: ignore[union-attr]
    messages = [event.message for event in store.list_events(first.id, None, 10)[0]]
    assert messages == ["Job resumed", "Job paused", "Created fine-tuning job"]


def test_pausing_again_and_again_wears_no_job_out(store: JobStore) -> None:
    job = add_job(store)
    for _ in range(10):
        assert store.claim_job("w", 10).attempts == 1  # type: ignore[union-attr]
        store.pause_job(job.id)
        store.resume_job(job.id)
    assert len(store.list_events(job.id, None, 100)[0]) == 21, "each turn is told"


def test_a_job_paused_before_its_files_are_checked_learns_their_faults_when_it_goes_on(store: JobStore) -> None:
    job = add_job(store, checked=False)
    assert store.pause_job(job.id).status == "paused"
    assert store.resume_job(job.id).status == "validating_files"
    store.pause_job(job.id)
    store.set_file_checked(job.training_file, ["line 2: no 'label'"], [], [], 0)
    with pytest.raises(InvalidRequest, match="line 2"):
        store.resume_job(job.id)
    assert store.cancel_job(job.id).status == "cancelled"
    with pytest.raises(Conflict, match="has cancelled"):
        store.pause_job(job.id)


def test_a_job_whose_files_are_being_checked_is_claimed_once(store: JobStore, clock: Clock) -> None:
    job = add_job(store, checked=False)
    assert store.claim_job("first", 10).id == job.id  # type: ignore[union-attr]
    assert store.claim_job("second", 10) is None
    clock.now += 11
    assert store.claim_job("second", 10).id == job.id  # type: ignore[union-attr]


def test_a_clock_that_goes_back_holds_no_job_for_ever(store: JobStore, clock: Clock, faults: Faults) -> None:
    job = add_job(store)
    store.claim_job("dead", 10)
    clock.now -= 86_400
    taken = store.claim_job("second", 10)
    assert taken is not None
    assert taken.id == job.id
    assert store.claim_job("third", 10) is None, "and the new lease is as good as any"
    faults.saw(
        "a clock set back by a day under a dead worker's lease", f"the job is {taken.status}, its worker {taken.worker}"
    )


@pytest.mark.parametrize("skew", [60.0, 3_600.0])
def test_hosts_whose_clocks_differ_leave_each_other_their_jobs(postgresql: Callable[[], str], skew: float) -> None:
    """Either would else see the other's lease as over, or as one from before its own clock went back."""
    url, lease = postgresql(), 0.9 * skew
    slow, fast = JobStore(Database(url)), JobStore(Database(url))
    fast.clock = lambda: time.time() + skew
    for holder, other in ((slow, fast), (fast, slow)):
        job = add_job(holder)
        assert holder.claim_job("holder", lease) is not None
        for _ in range(3):
            assert other.claim_job("other", lease) is None
            assert not other.has_work(lease)
            assert other.figures().overdue_seconds == 0
            assert holder.heartbeat(job.id, "holder", lease)
        assert holder.heartbeat(job.id, "holder", 0.0)
        wait_for(lambda store=other: store.claim_job("other", lease) is not None, 60)  # type: ignore[misc]
        assert not holder.heartbeat(job.id, "holder", lease)
        other.cancel_job(job.id)
    for store in (slow, fast):
        store._database.close()


# ---- checkpoints, streams of events, metadata, files that expire


def test_checkpoints_are_kept_once_a_step_and_listed_newest_first(store: JobStore) -> None:
    job, other = add_job(store), add_job(store)
    for step in (10, 20, 20, 30):
        store.add_checkpoint(job.id, step, f"ft:m:ckpt-step-{step}", {"step": step})
    page, more = store.list_checkpoints(job.id, None, 2)
    assert [one.step for one in page] == [30, 20]
    assert more
    rest, more = store.list_checkpoints(job.id, page[-1].id, 2)
    assert [one.step for one in rest] == [10]
    assert not more
    assert store.list_checkpoints(other.id, None, 2) == ([], False)
    with pytest.raises(NotFound):
        store.list_checkpoints(other.id, page[0].id, 2)
    store.remove_checkpoint("ft:m:ckpt-step-20")
    assert [one.step for one in store.list_checkpoints(job.id, None, 9)[0]] == [30, 10]


def test_events_are_read_on_from_any_of_them_until_the_job_has_ended(store: JobStore) -> None:
    job, other = add_job(store), add_job(store)
    for step in range(5):
        store.add_event(job.id, f"step:{step}", f"step {step}", metrics={"step": step, "train_loss": 1.0 / (step + 1)})
    first, ended = store.events_since(job.id, None, 3)
    assert [event.message for event in first] == ["Created fine-tuning job", "step 0", "step 1"]
    assert not ended
    rest, _ = store.events_since(job.id, first[-1].id, 9)
    assert [event.message for event in rest] == ["step 2", "step 3", "step 4"]
    with pytest.raises(NotFound, match="does not exist in job"):
        store.events_since(other.id, first[0].id, 3)
    store.cancel_job(job.id)
    rest, ended = store.events_since(job.id, rest[-1].id, 9)
    assert ([event.message for event in rest], ended) == (["Job cancelled"], True)
    assert store.train_loss(job.id, 3) == 0.25
    assert store.train_loss(job.id, -1) is None


def test_jobs_are_found_by_their_metadata(store: JobStore) -> None:
    jobs = [add_job(store) for _ in range(3)]
    with store._database.write() as session:
        for job, meta in zip(jobs, ({"team": "a", "run": "1"}, {"team": "a"}, {}), strict=True):
            session.get_one(Job, job.id).meta = meta
    found = lambda meta: [job.id for job in store.list_jobs(None, 9, meta)[0]]  # noqa: E731
    assert found({"team": "a"}) == [jobs[1].id, jobs[0].id]
    assert found({"team": "a", "run": "1"}) == [jobs[0].id]
    assert found({"team": ""}) == []
    assert found({}) == [jobs[2].id]
    assert len(found(None)) == 3


def test_a_file_goes_when_its_time_is_over_and_no_job_needs_it(store: JobStore, clock: Clock) -> None:
    job = add_job(store)
    assert store.add_file("file-short", "a", 1, "fine-tune", lives_seconds=3_600).expires_at is not None
    with store._database.write() as session:
        session.get_one(File, job.training_file).expires_at = clock.now + 10
    assert store.expired_file() is None
    clock.now += 20
    assert store.expired_file() is None, "the job needs it"
    store.cancel_job(job.id)
    assert store.expired_file() == job.training_file
    store.delete_file(job.training_file)
    clock.now += 3_600
    assert store.expired_file() == "file-short"


# ---- on both databases


def test_pages_of_jobs_and_files_go_on_after_any_of_them(store: JobStore) -> None:
    jobs = [add_job(store) for _ in range(5)]
    with store._database.write() as session:
        for job in jobs[1:4]:
            session.get_one(Job, job.id).created_at = jobs[1].created_at  # of one moment
            session.get_one(Job, job.id).meta = {"of": "three"}
    whole = [job.id for job in store.list_jobs(None, 9)[0]]
    assert (whole[0], whole[-1]) == (jobs[4].id, jobs[0].id)
    for size in (1, 2, 3):
        for metadata, wanted in ((None, whole), ({"of": "three"}, whole[1:4])):
            found: list[str] = []
            more = True
            while more:
                page, more = store.list_jobs(found[-1] if found else None, size, metadata)
                found += [job.id for job in page]
            assert found == wanted
    newest, _ = store.list_files("fine-tune", None, 9, descending=True)
    oldest, _ = store.list_files("fine-tune", None, 9, descending=False)
    assert [file.id for file in newest] == [file.id for file in oldest][::-1]
    page, more = store.list_files(None, oldest[1].id, 2, descending=False)
    assert ([file.id for file in page], more) == ([file.id for file in oldest[2:4]], True)
    with pytest.raises(NotFound, match="names nothing in this list"):
        store.list_jobs("ftjob-none", 2)


def test_names_and_words_of_users_are_taken_whatever_they_hold(store: JobStore) -> None:
    odd = "a\0b\ud83d\ude00'\"; DROP TABLE jobs; -- \N{CJK UNIFIED IDEOGRAPH-4E2D}".encode(
        "utf-16", "surrogatepass"
    ).decode("utf-16")
    store.add_file("file-odd", odd, 5 * 2**40, "fine-tune")
    assert store.file("file-odd").filename == odd.replace("\0", "\N{SYMBOL FOR NULL}")
    assert store.file("file-odd").bytes == 5 * 2**40
    with pytest.raises(NotFound):
        store.file("file-\0")
    job = add_job(store)
    store.add_event(job.id, odd, odd, metrics={"label": odd})
    event = store.list_events(job.id, None, 1)[0][0]
    assert event.data == {"label": odd}


def test_many_workers_take_each_job_once_and_a_bound_is_kept_by_many_clients(database_url: str) -> None:
    store = JobStore(Database(database_url))
    store.add_file("file-1", "rows.jsonl", 10, "fine-tune")
    store.set_file_checked("file-1", [], [], ["a", "b"], 10)

    def submit(number: int) -> str | None:
        job = Job(id=f"ftjob-{number}", model="m", training_file="file-1", seed=0, hyperparameters={}, priority=0)
        try:
            return store.create_job(job, 20, None).id
        except Busy:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [job_id for job_id in pool.map(submit, range(40)) if job_id]
    assert len(made) == 20
    workers = [JobStore(Database(database_url)) for _ in range(4)]

    def work(number: int) -> list[str]:
        taken = []
        while (job := workers[number].claim_job(f"w{number}", 60)) is not None:
            taken.append(job.id)
            workers[number].add_event(job.id, "started", "started")
            assert workers[number].succeed(job.id, f"w{number}", f"ft:{job.id}", {}, 1)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for own in pool.map(work, range(4)) for job_id in own]
    assert sorted(taken) == sorted(made), "each once"
    for one in (store, *workers):
        one._database.close()


def test_a_reader_that_follows_events_misses_none_of_many_writers(database_url: str) -> None:
    store = JobStore(Database(database_url))
    job = add_job(store)
    writers = [JobStore(Database(database_url)) for _ in range(3)]
    seen: list[str] = []

    def write(number: int) -> None:
        for index in range(30):
            writers[number].add_event(job.id, f"{number}:{index}", f"{number}:{index}")

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(write, number) for number in range(3)]
        last = None
        while len(seen) < 91:
            assert all(one.exception() is None for one in running if one.done())
            for event in store.events_since(job.id, last, 7)[0]:
                last = event.id
                seen.append(event.message)
    assert len(set(seen)) == len(seen) == 91
    for one in (store, *writers):
        one._database.close()
