"""The worker lets a job go within one step, and takes it up again at that step; what it leaves can be called, and has a
card."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

import service.jobs.lease
from model.weights import load_model
from service.database import Database, sqlite_url
from service.errors import InvalidRequest
from service.jobs.lease import Lease
from service.jobs.room import check_room, machine_memory
from service.jobs.store import JobStore
from service.jobs.worker import Worker
from service.model_card import CARD_FILE, limits
from service.routes.jobs import shape
from service.schemas.jobs import JobObject
from service.tables import Job
from tests.faults import Faults
from tests.test_service_results import Killed, finish, settings, submit, worker
from training.events import Finishing, Started, TrainingEvent
from training.results import read_manifest
from training.trainer import Trainer

__all__ = ["settings", "worker"]  # fixtures


@pytest.fixture(autouse=True)
def asks_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.jobs.lease, "ASK_SECONDS", 0.0)


def act_at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: object) -> list[int]:
    """Does something once, amid the step of this number -> the steps that are made, as they are made."""
    made: list[int] = []
    real = Trainer._step

    def stepping(trainer: Trainer, *arguments: object) -> int:
        if trainer.position.step + 1 == step and step not in made:
            act()  # type: ignore[operator]
        tokens = real(trainer, *arguments)  # type: ignore[arg-type]
        made.append(trainer.position.step)
        return tokens

    monkeypatch.setattr(Trainer, "_step", stepping)
    return made


def run_next(worker: Worker) -> bool:
    """The next job, once the uploads are checked -> whether there was one."""
    while worker.checks.check_once():
        pass
    return worker.work_once()


def model_bytes(worker: Worker, job_id: str) -> bytes:
    return (worker.settings.runs / job_id / "model" / "model.safetensors").read_bytes()


def test_a_paused_job_stops_after_its_step_and_goes_on_from_there(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = submit(worker)
    assert finish(worker, whole).status == "succeeded"
    job_id = submit(worker)
    made = act_at_step(monkeypatch, 4, lambda: worker.store.pause_job(job_id))
    assert run_next(worker)
    assert worker.store.job(job_id).status == "paused"
    assert made == [1, 2, 3, 4]
    assert not run_next(worker), "nobody takes a paused job"
    worker.store.resume_job(job_id)
    job = finish(worker, job_id)
    assert job.status == "succeeded"
    assert made == list(range(1, len(made) + 1)), "no step is made twice"
    assert job.attempts == 1
    assert model_bytes(worker, job_id) == model_bytes(worker, whole)
    assert (
        read_manifest(worker.settings.runs / job_id)["history"]
        == read_manifest(worker.settings.runs / whole)["history"]
    )


def test_a_cancelled_job_stops_after_its_step_and_keeps_a_checkpoint(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = submit(worker)
    made = act_at_step(monkeypatch, 3, lambda: worker.store.cancel_job(job_id))
    run_next(worker)
    assert worker.store.job(job_id).status == "cancelled"
    assert made == [1, 2, 3]
    assert (worker.settings.runs / job_id / "checkpoint" / "state.json").is_file()
    assert worker.store.list_events(job_id, None, 1)[0][0].message == "Job cancelled"


def test_a_worker_that_is_stopped_gives_its_job_back_and_the_next_one_makes_no_step_twice(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = submit(worker)
    assert finish(worker, whole).status == "succeeded"
    job_id = submit(worker)
    made = act_at_step(monkeypatch, 4, worker.leaving.set)
    worker.run()
    next_worker = Worker(worker.settings)
    job = next_worker.store.job(job_id)
    assert (job.status, job.worker, job.attempts) == ("queued", None, 0)
    assert made == [1, 2, 3, 4]
    assert next_worker.store.list_events(job_id, None, 1)[0][0].message.startswith("The worker was stopped")
    job = finish(next_worker, job_id)
    assert (job.status, job.attempts) == ("succeeded", 1)
    assert made == list(range(1, len(made) + 1)), "the steps of both, none of them twice"
    assert model_bytes(next_worker, job_id) == model_bytes(next_worker, whole)
    next_worker.database.close()


def test_a_job_yields_to_one_of_higher_priority_and_ends_later(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    low = submit(worker)
    high: list[str] = []

    def submit_high() -> None:
        high.append(submit(worker))
        with worker.store._database.write() as session:
            session.merge(worker.store.job(high[0])).priority = 5

    made = act_at_step(monkeypatch, 2, submit_high)
    run_next(worker)
    assert made == [1, 2]
    assert worker.store.job(low).status == "queued"
    assert finish(worker, high[0]).status == "succeeded"
    assert finish(worker, low).status == "succeeded"
    ended = [worker.store.job(job_id).finished_at for job_id in (high[0], low)]
    assert ended == sorted(ended)  # type: ignore[type-var]


def test_a_job_that_was_taken_over_is_let_go_and_never_ends_twice(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second worker waits until the first has left the job's folder."""
    job_id = submit(worker)
    other = Worker(worker.settings)
    other.store.clock = lambda: time.time() + 60  # for it the lease is over
    second = threading.Thread(target=other.work_once)
    seen: list[str | None] = []

    def take_over() -> None:
        second.start()
        while worker.store.job(job_id).worker != other.name:
            time.sleep(0.01)
        time.sleep(0.5)
        seen.append(worker.store.job(job_id).worker)

    made = act_at_step(monkeypatch, 3, take_over)
    run_next(worker)
    second.join()
    other.database.close()
    assert seen == [other.name]
    assert made == list(range(1, len(made) + 1)), "the steps of both, none of them twice"
    assert worker.store.job(job_id).status == "succeeded"
    messages = [event.message for event in worker.store.list_events(job_id, None, 100)[0]]
    assert sum("has succeeded" in message for message in messages) == 1
    assert sum("worker of this job died" in message for message in messages) == 1


def test_every_evaluation_leaves_a_model_that_can_be_called_and_old_ones_go(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_evaluation_is_due", lambda self: self.position.step % 3 == 0 or self.finished)
    job = finish(worker, submit(worker))
    checkpoints, _ = worker.store.list_checkpoints(job.id, None, 10)
    steps = [one.step for one in checkpoints]
    assert len(steps) == worker.settings.keep_checkpoints == 3
    assert steps == sorted(steps, reverse=True)
    for one in checkpoints:
        assert one.model == f"{job.fine_tuned_model}:ckpt-step-{one.step}"
        model, _ = load_model(worker.models.find(one.model).folder)
        assert model.config.labels == ("cold", "暖")
        assert one.metrics["step"] == one.step
        assert 0.0 <= one.metrics["full_valid_mean_token_accuracy"] <= 1.0
        assert one.metrics["valid_loss"] > 0.0
    assert job.metrics is not None
    by_step = {one.step: one for one in checkpoints}
    best = read_manifest(worker.settings.runs / job.id)["best_step"]
    if best in by_step:
        ours = worker.models.find(by_step[best].model).folder / "model.safetensors"
        assert ours.read_bytes() == model_bytes(worker, job.id)
    named = [card.id for card in worker.models.cards() if ":ckpt-step-" in card.id]
    assert sorted(named) == sorted(one.model for one in checkpoints)
    assert not list((worker.settings.runs / job.id).glob("snapshots/*"))


def test_a_run_that_stopped_early_promises_no_end_and_says_what_it_does_until_it_has_ended(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[JobObject] = []
    real = Worker._report

    def reporting(self: Worker, job: Job, event: TrainingEvent) -> None:
        real(self, job, event)
        seen.append(shape([worker.store.job(job.id)], worker.store)[0])

    monkeypatch.setattr(Worker, "_report", reporting)
    monkeypatch.setattr(Trainer, "_evaluation_is_due", lambda trainer: trainer.position.step % 10 == 0)
    job = finish(worker, submit(worker, early_stopping=1, n_epochs=50, metric="accuracy"))
    *trained, last = seen
    assert last.progress is not None
    assert last.progress["step"] < last.progress["total_steps"]
    assert last.progress["finishing"] == "Writing the model"
    assert last.estimated_finish is None
    trains = [one for one in trained if "finishing" not in (one.progress or {})]
    assert any(one.estimated_finish for one in trains)
    assert len(trained) - len(trains) == 2  # judging, fitting
    ended = shape([worker.store.job(job.id)], worker.store)[0]
    assert ended.status == "succeeded"
    assert ended.progress == {name: value for name, value in last.progress.items() if name != "finishing"}


def test_a_run_taken_up_again_is_not_at_its_end_until_it_says_so_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Worker._report
    killed: list[TrainingEvent] = []
    started: list[dict[str, Any]] = []

    def reporting(self: Worker, job: Job, event: TrainingEvent) -> None:
        real(self, job, event)
        if isinstance(event, Started):
            started.append(worker.store.job(job.id).progress or {})
        if isinstance(event, Finishing) and not killed:
            killed.append(event)
            raise Killed

    monkeypatch.setattr(Worker, "_report", reporting)
    job_id = submit(worker)
    with pytest.raises(Killed):
        run_next(worker)
    assert "finishing" in (worker.store.job(job_id).progress or {})
    worker.store.give_back(job_id, worker.name)
    assert finish(worker, job_id).status == "succeeded"
    assert len(started) == 2
    assert started[1]["step"] == started[1]["total_steps"]
    assert not any("finishing" in progress for progress in started)


def test_a_database_that_does_not_answer_takes_no_job_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(Database(sqlite_url(tmp_path / "store.sqlite")))
    lease = Lease(store, "ftjob-1", "w", 10, 0)

    def broken(*_: object) -> bool:
        raise OperationalError("select", {}, Exception("disk I/O error"))

    monkeypatch.setattr(store, "holds", broken)
    assert not lease.over()
    monkeypatch.undo()
    monkeypatch.setattr(service.jobs.lease, "ASK_SECONDS", 0.0)
    assert lease.over(), "there is no such job of this worker"
    store._database.close()


def test_a_figure_that_the_rows_turn_out_not_to_have_ends_the_job_by_its_name(worker: Worker) -> None:
    """The file had not been read yet when the job was submitted."""
    job_id = submit(worker, checked=False, metric="r2")
    assert run_next(worker)
    job = worker.store.job(job_id)
    assert (job.status, job.error) == (
        "failed",
        {
            "code": "invalid_value",
            "message": "metric is 'r2'; for classification choose one of ['accuracy', 'macro_f1', 'loss']",
            "param": "metric",
        },
    )


def test_a_folder_that_takes_no_files_ends_in_a_clear_error(worker: Worker, faults: Faults) -> None:
    job_id = submit(worker)
    worker.settings.runs.mkdir(parents=True, exist_ok=True)
    (worker.settings.runs / job_id).write_text("a file where the job's folder should be")
    run_next(worker)
    job = worker.store.job(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error["code"] == "storage"
    assert "check its disk, then submit again" in job.error["message"]
    faults.saw("a job whose folder takes no files", f"{job.status}: {job.error['code']}: {job.error['message']}")


def test_a_checkpoint_in_use_is_not_dropped(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that an alias stands for, and one that a waiting job begins from."""
    monkeypatch.setattr(Trainer, "_evaluation_is_due", lambda self: self.position.step % 3 == 0 or self.finished)
    job_id = submit(worker)
    named: list[str] = []

    def use(checkpoint: int, act: object) -> None:
        (newest, *_), _ = worker.store.list_checkpoints(job_id, None, 1)
        assert newest.step == checkpoint
        named.append(newest.model)
        act(newest.model)  # type: ignore[operator]

    def begin_from(model: str) -> None:
        file = worker.store.job(job_id).training_file
        wanted = Job(id="ftjob-next", model=model, training_file=file, seed=0, hyperparameters={}, meta={}, priority=-1, request_key=None)  # fmt: skip
        worker.store.create_job(wanted, 10, None)

    real = Trainer._step

    def stepping(trainer: Trainer, *arguments: object) -> int:
        if trainer.position.step == 3:
            use(3, lambda model: worker.aliases.promote("local", "early", model))
        elif trainer.position.step == 6:
            use(6, begin_from)
        return real(trainer, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stepping)
        run_next(worker)
    assert worker.store.job(job_id).status == "succeeded"
    steps = [one.step for one in worker.store.list_checkpoints(job_id, None, 100)[0]]
    assert steps[-2:] == [6, 3]
    assert len(steps) == 2 + worker.settings.keep_checkpoints
    for model in named:
        assert worker.models.find(model)


# ---- what is left of a run


def test_a_tuned_model_carries_its_card(worker: Worker) -> None:
    job = finish(worker, submit(worker))
    assert job.fine_tuned_model is not None
    text = (worker.models.find(job.fine_tuned_model).folder / CARD_FILE).read_text(encoding="utf-8")
    manifest = read_manifest(worker.settings.runs / job.id)
    assert text.startswith(f"# {job.fine_tuned_model}\n\nA classification model, tuned from `tiny`")
    for part in (manifest["train"], manifest["validation"], manifest["base_sha256"], "`暖`", "of rows.jsonl"):
        assert part in text
    assert f"| learning_rate | {manifest['recipe']['learning_rate']} |" in text
    assert f"{manifest['steps']} of {manifest['planned_steps']}" in text
    for row in ("| this model | ", "| majority | ", "| TF-IDF | "):
        assert row in text
    assert "held-out rows are few" in text
    assert "Of a text it reads the first" in text


def test_limits_are_told_from_the_figures() -> None:
    manifest = {"recipe": {"max_length": 64}}
    good = {"rows": 900, "calibration": {"ece": 0.01}, "versus": {"baseline": "TF-IDF", "interval": [0.02, 0.08]}}
    bad = {
        "rows": 90, "calibration": {"ece": 0.12, "temperature": 1.57}, "versus": {"baseline": "TF-IDF", "interval": [-0.02, 0.04]},
        "mislabelled": {"named": 7},
    }  # fmt: skip
    plain = limits(manifest, good)
    assert len(plain) == 3
    assert "first 64 tokens" in plain[1]
    found = " ".join(limits(manifest, bad))
    for words in (
        "90 held-out rows are few",
        "off by 0.120",
        "divided by 1.57",
        "not clearly better than TF-IDF",
        "7 training rows",
    ):
        assert words in found
        assert words not in " ".join(plain)


def test_a_base_too_large_for_the_machine_is_refused_before_it_is_queued(tmp_path: Path) -> None:
    check_room("bert", 440 * 2**20, "full", 4 * 2**30)
    with pytest.raises(
        InvalidRequest, match=r"tuning 'llm' needs at least 40.6 GiB, this machine has 24.0 GiB; choose adapter 'lora'"
    ):
        check_room("llm", 10 * 2**30, "full", 24 * 2**30)
    check_room("llm", 10 * 2**30, "lora", 24 * 2**30)
    check_room("llm", 10 * 2**30, "auto", 24 * 2**30)
    with pytest.raises(InvalidRequest, match="choose a smaller base"):
        check_room("llm", 30 * 2**30, "auto", 24 * 2**30)
    limit = tmp_path / "memory.max"
    assert machine_memory(limit) > 2**28
    limit.write_text("max\n")
    whole = machine_memory(limit)
    limit.write_text("1073741824\n")
    assert machine_memory(limit) == 2**30 < whole
