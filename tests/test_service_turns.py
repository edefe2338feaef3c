"""Whose job is next: owners take turns, priorities come first."""

from service.database import Database
from service.jobs.store import JobStore, new_id
from service.jobs.turns import Waiting, in_turn
from service.tables import Job
from tests.test_service_jobs_store import Clock


def waits(*jobs: tuple[str, str, int]) -> list[Waiting]:
    return [Waiting(name, owner, priority, float(at)) for at, (name, owner, priority) in enumerate(jobs)]


def test_who_submits_many_jobs_delays_nobodys_first() -> None:
    jobs = waits(("a1", "a", 0), ("a2", "a", 0), ("a3", "a", 0), ("b1", "b", 0), ("c1", "c", 0), ("b2", "b", 0))
    assert in_turn(jobs, {}, {}) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert in_turn(jobs, {"a": 1}, {"a": 9.0}) == ["b1", "c1", "b2", "a1", "a2", "a3"]
    assert in_turn(jobs, {}, {"a": 9.0, "c": 5.0, "b": None}) == ["b1", "c1", "a1", "b2", "a2", "a3"]


def test_priority_comes_before_fairness_and_age_within_an_owner() -> None:
    jobs = waits(("a1", "a", 0), ("b1", "b", -100), ("a2", "a", 5), ("a3", "a", 0))
    assert in_turn(jobs, {"a": 3}, {"a": 9.0}) == ["a2", "a1", "a3", "b1"]
    assert in_turn([], {}, {}) == []


def test_the_store_serves_owners_in_turn_and_tells_each_its_place(database_url: str) -> None:
    store = JobStore(Database(database_url), Clock())
    made: dict[str, list[str]] = {"a": [], "b": []}
    for owner in "aaab":
        own = store.of(owner)
        file_id = new_id("file")
        own.add_file(file_id, "rows.jsonl", 10, "fine-tune")
        store.set_file_checked(file_id, [], [], ["x", "y"], 10)
        job = Job(id=new_id("ftjob"), model="m", training_file=file_id, seed=0, hyperparameters={}, priority=0)
        made[owner].append(own.create_job(job, 100, None).id)
    a, b = made["a"], made["b"]
    assert store.of("b").turns() == {a[0]: 1, b[0]: 2, a[1]: 3, a[2]: 4}
    order = []
    while (job := store.claim_job("w", 60)) is not None:
        order.append(job.id)
        store.succeed(job.id, "w", f"ft:{job.id}", {}, 1)
    assert order == [a[0], b[0], a[1], a[2]]
    seconds = store.usual_seconds()
    assert seconds is not None
    assert 0 < seconds < 1
    store._database.close()
