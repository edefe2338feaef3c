"""Jobs, their events and checkpoints, beside the files, in transactions. The truth that survives every process.

Used by the routes (through threads, as an owner sees it) and by the worker process, which sees all. Times are Unix
seconds from the wall clock; leases go by one that all hosts share.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from service.database import page
from service.errors import Busy, Conflict, InvalidRequest, NotFound
from service.ids import new_id
from service.jobs.announce import announce
from service.jobs.figures import JobFigures
from service.jobs.file_store import FileStore
from service.jobs.states import OPEN_STATES, STATES, WAITING_STATES, WORKED_STATES
from service.jobs.turns import Waiting, in_turn
from service.schemas.jobs import METRICS
from service.tables import LOCAL_OWNER, Checkpoint, Event, File, Job

DEMO_PRIORITY = -100
CREATED = "created"  # the key of a job's first event
WAITS = "waits:"  # how the keys of those begin that tell what the job is put off for
RECENT_JOBS = 20  # whose time tells what the next ones will take
SCAN_ROWS = 500  # jobs read at a time where their metadata is looked at
MAX_ATTEMPTS = 5  # a job whose workers died this often without one step more is broken, not unlucky


class JobStore(FileStore):
    """Every change is one transaction; a conditional update decides each race."""

    def create_job(
        self, job: Job, max_queued: int, retry_window_seconds: float | None, traceparent: str | None = None
    ) -> Job:
        """Adds the job, or returns the one that the same request made moments ago (a client's automatic retry). The
        first event keeps the place of the request in its trace.

        Raises NotFound, InvalidRequest for files that are known to be unfit, Busy when the queue is full.
        """
        with self._database.write() as session:
            if retry_window_seconds is not None:
                recent = Job.created_at > self.clock() - retry_window_seconds
                own = self._mine(select(Job), Job).where(Job.request_key == job.request_key, recent)
                twin = session.scalars(own).first()
                if twin is not None:
                    return twin
            job.status = "queued" if self._check_files(session, job) else "validating_files"
            waiting = session.scalar(select(func.count()).where(Job.status.in_(WAITING_STATES))) or 0
            if waiting >= max_queued:
                raise Busy(f"{waiting} jobs wait, the limit is {max_queued}; try again later", retry_after_seconds=30)
            job.created_at, job.owner = self.clock(), self.owner or LOCAL_OWNER
            session.add(job)
            session.flush()
            data = {"traceparent": traceparent} if traceparent else {}
            self._add_event(session, job.id, CREATED, "info", "Created fine-tuning job", "message", data)
        return job

    def created_by(self, job_id: str) -> str | None:
        """The place of the request that made the job, if that was traced."""
        with self._database.read() as session:
            data = session.scalar(select(Event.data).where(Event.job_id == job_id, Event.key == CREATED))
        return str(data["traceparent"]) if data and "traceparent" in data else None

    def _check_files(self, session: Session, job: Job) -> bool:
        """Whether all files are known to be good. Raises InvalidRequest with every fault of a bad one."""
        training = self._file(session, job.training_file, "training_file")
        validation = self._file(session, job.validation_file, "validation_file") if job.validation_file else None
        task = job.hyperparameters.get("task")
        for file, param in ((training, "training_file"), (validation, "validation_file")):
            if file is not None and file.purpose != "fine-tune":
                message = f"file {file.id} ({file.filename}) has the purpose {file.purpose!r}; upload rows to train on"
                raise InvalidRequest(message, param)
        refuse_unfit(training, validation, task)
        refuse_unlike(job.hyperparameters, task or training.task)
        checked = all(file.status == "processed" for file in (training, validation) if file is not None)
        return checked and task in (None, training.task)

    def job(self, job_id: str) -> Job:
        with self._database.read() as session:
            return self._job(session, job_id)

    def list_jobs(
        self, after: str | None, limit: int, metadata: Mapping[str, str] | None = None
    ) -> tuple[list[Job], bool]:
        """Newest first; those with all these pairs of metadata, or, for an empty mapping, with none at all."""
        found: list[Job] = []
        with self._database.read() as session:
            while len(found) <= limit:
                query = self._mine(select(Job), Job)
                jobs, more = page(session, query, Job, after, max(limit, SCAN_ROWS if metadata else 0))
                for job in jobs:
                    if metadata is None or (metadata.items() <= job.meta.items() if metadata else not job.meta):
                        found.append(job)
                if not more:
                    return found[:limit], len(found) > limit
                after = jobs[-1].id
        return found[:limit], True

    def turns(self) -> dict[str, int]:
        """The waiting jobs of all owners and their places: 1 for the next to run."""
        with self._database.read() as session:
            waiting = self._waiting(session, Job.status.in_(WAITING_STATES), foreseen=True)
        return {job_id: place for place, job_id in enumerate(waiting, start=1)}

    def usual_seconds(self) -> float | None:
        """What the last jobs took, on the mean; None before any has succeeded."""
        query = select(Job.finished_at, Job.claimed_at).where(Job.status == "succeeded", Job.claimed_at.is_not(None))
        with self._database.read() as session:
            done = session.execute(query.order_by(Job.finished_at.desc()).limit(RECENT_JOBS)).all()
        took = [max(0.0, (end or 0.0) - (begin or 0.0)) for end, begin in done]
        return sum(took) / len(took) if took else None

    def cancel_job(self, job_id: str) -> Job:
        """Raises Conflict for a job that has ended."""
        with self._database.write() as session:
            job = self._job(session, job_id)
            if job.status not in OPEN_STATES:
                raise Conflict(f"job {job_id} has {job.status}; only a job that has not ended can be cancelled")
            job.status, job.finished_at, job.worker = "cancelled", self.clock(), None
            announce(session, "fine_tuning.job.cancelled", job_id, job.owner, self.clock())
            self._add_event(session, job_id, "cancelled", "info", "Job cancelled", "message", {})
        return job

    def pause_job(self, job_id: str) -> Job:
        """Takes a job out of the queue, or from its worker, which leaves a checkpoint. Raises Conflict for one that is
        paused or has ended."""
        with self._database.write() as session:
            job = self._job(session, job_id)
            if job.status not in WORKED_STATES:
                state = "is paused" if job.status == "paused" else f"has {job.status}"
                raise Conflict(f"job {job_id} {state}; only a job that waits or runs can be paused")
            if job.worker is not None:
                job.attempts -= 1  # this one ends without a fault
            job.status, job.worker, job.lease_until = "paused", None, 0.0
            self._add_event(session, job_id, f"paused:{new_id('turn')}", "info", "Job paused", "message", {})
        return job

    def resume_job(self, job_id: str) -> Job:
        """Back into the queue, at the place of its age. Raises Conflict for a job that is not paused, InvalidRequest
        when its files have turned out unfit."""
        with self._database.write() as session:
            job = self._job(session, job_id)
            if job.status != "paused":
                raise Conflict(f"job {job_id} is not paused, its status is {job.status}; only a paused job can go on")
            job.status = "queued" if self._check_files(session, job) else "validating_files"
            self._add_event(session, job_id, f"resumed:{new_id('turn')}", "info", "Job resumed", "message", {})
        return job

    def add_checkpoint(self, job_id: str, step: int, model: str, metrics: dict[str, Any]) -> None:
        """One more, or none when the job has one of this step."""
        values = {"id": new_id("ftckpt"), "job_id": job_id, "step": step, "created_at": self.clock(), "model": model}
        with self._database.write() as session:
            self._database.insert_once(session, Checkpoint, values | {"metrics": metrics})

    def remove_checkpoint(self, model: str) -> None:
        """Before its model is deleted."""
        with self._database.write() as session:
            session.execute(delete(Checkpoint).where(Checkpoint.model == model))

    def list_checkpoints(self, job_id: str, after: str | None, limit: int) -> tuple[list[Checkpoint], bool]:
        """Newest first."""
        with self._database.read() as session:
            self._job(session, job_id)
            query = select(Checkpoint).where(Checkpoint.job_id == job_id)
            return page(session, query, Checkpoint, after, limit)

    def events_since(self, job_id: str, after: str | None, limit: int) -> tuple[list[Event], bool]:
        """Oldest first, those after the event of this id -> and whether the job has ended, so that no more will come.
        Raises NotFound for an id that is not of this job."""
        with self._database.read() as session:
            job = self._job(session, job_id)
            query = select(Event).where(Event.job_id == job_id).order_by(Event.number)
            if after is not None:
                query = query.where(Event.number > _event_number(session, job_id, after))
            return list(session.scalars(query.limit(limit))), job.status not in OPEN_STATES

    def list_events(self, job_id: str, after: str | None, limit: int) -> tuple[list[Event], bool]:
        with self._database.read() as session:
            self._job(session, job_id)
            query = select(Event).where(Event.job_id == job_id).order_by(Event.number.desc())
            if after is not None:
                query = query.where(Event.number < _event_number(session, job_id, after))
            events = list(session.scalars(query.limit(limit + 1)))
        return events[:limit], len(events) > limit

    # The worker's side

    def claim_job(self, worker: str, lease_seconds: float) -> Job | None:
        """The next job to run, now leased to `worker`: first those of dead workers, then by `turns.py`. A lease further
        ahead than leases reach was given before the clock went back, and is worth nothing."""
        with self._database.write() as session:
            now = self.lease_now(session)
            free = (Job.lease_until < now) | (Job.lease_until > now + 2 * lease_seconds)
            abandoned = select(Job.id).where(Job.status == "running", free).order_by(Job.created_at).limit(1)
            job_id = session.scalar(abandoned)
            if job_id is None:
                job_id = next(iter(self._waiting(session, Job.status.in_(WAITING_STATES) & free)), None)
            if job_id is None:
                return None
            job = session.get_one(Job, job_id)
            if job.status == "running":
                self._add_event(
                    session, job.id, f"taken-over:{new_id('turn')}", "warn",
                    "The worker of this job died; it continues from its last checkpoint", "message", {},
                )  # fmt: skip
            job.worker, job.lease_until, job.attempts = worker, now + lease_seconds, job.attempts + 1
            job.claimed_at = self.clock()
            if job.status == "queued":
                job.status = "running"
        return job

    def has_work(self, lease_seconds: float) -> bool:
        """Whether a worker has something to do, or soon will: a job to run, an upload to check, a report to make. A
        worker that has let half its lease pass without a heartbeat is probably dead."""
        now = self.lease_clock()
        free = (Job.lease_until < now + lease_seconds / 2) | (Job.lease_until > now + 2 * lease_seconds)
        with self._database.read() as session:
            claimable = select(Job.id).where(Job.status.in_(WORKED_STATES), free).limit(1)
            if session.scalar(claimable) is not None:
                return True
        return self.unchecked_file() is not None or self.pending_report() is not None

    def _waiting(self, session: Session, which: ColumnElement[bool], foreseen: bool = False) -> list[str]:
        """The ids of these waiting jobs, in the order in which they run; `foreseen`, once those that run have ended."""
        columns = (Job.id, Job.owner, Job.priority, Job.created_at)
        waiting = [Waiting(*row) for row in session.execute(select(*columns).where(which))]
        if not waiting:
            return []
        held = Job.worker.is_not(None) & Job.status.in_(WORKED_STATES)
        running = dict(session.execute(select(Job.owner, func.count()).where(held).group_by(Job.owner)).all())
        served = dict(session.execute(select(Job.owner, func.max(Job.claimed_at)).group_by(Job.owner)).all())
        return in_turn(waiting, {} if foreseen else running, served)

    def start_running(self, job_id: str, worker: str) -> bool:
        """From validating_files to running, once the files turned out good."""
        return self._update_own(job_id, worker, status="running")

    def heartbeat(self, job_id: str, worker: str, lease_seconds: float) -> bool:
        """Extends the lease; False when the job is no longer this worker's (cancelled, or taken over)."""
        return self._update_own(job_id, worker, lease_until=self.lease_clock() + lease_seconds)

    def holds(self, job_id: str, worker: str) -> bool:
        """Whether the job is still this worker's: not cancelled, paused or taken over."""
        mine = (Job.id == job_id) & (Job.worker == worker) & Job.status.in_(WORKED_STATES)
        with self._database.read() as session:
            return session.scalar(select(func.count()).where(mine)) == 1

    def set_progress(self, job_id: str, worker: str, **values: Any) -> bool:
        return self._update_own(job_id, worker, **values)

    def requeue(self, job_id: str, worker: str) -> bool:
        """Gives a running job back to the queue, unhurt."""
        attempts = Job.attempts - 1
        return self._update_own(job_id, worker, status="queued", worker=None, lease_until=0.0, attempts=attempts)

    def put_off(self, job_id: str, worker: str, reason: str) -> None:
        """The same for a job that waits for something; that is told once, however often it is tried in vain."""
        if not self.requeue(job_id, worker):
            return
        newest, _ = self.list_events(job_id, None, 1)
        if not newest or not newest[0].key.startswith(WAITS):
            self.add_event(job_id, f"{WAITS}{new_id('turn')}", reason, level="warn")

    def give_back(self, job_id: str, worker: str) -> bool:
        """Gives a job back to the queue after an attempt that went wrong, which counts."""
        return self._update_own(job_id, worker, status="queued", worker=None, lease_until=0.0)

    def outranked(self, priority: int) -> bool:
        """Whether a job of higher priority waits."""
        with self._database.read() as session:
            waits = Job.status.in_(WAITING_STATES)
            return session.scalar(select(func.count()).where(waits, Job.priority > priority)) != 0

    def succeed(
        self, job_id: str, worker: str, fine_tuned_model: str, metrics: dict[str, Any], tokens: int,
        results: Sequence[File] = (),
    ) -> bool:  # fmt: skip
        """Result files, whose bytes are in place, become known together with the success, or never."""
        with self._database.write() as session:
            if not self._finish(session, job_id, worker, "succeeded"):
                return False
            session.add_all(results)
            values = {"fine_tuned_model": fine_tuned_model, "metrics": metrics, "trained_tokens": tokens}
            values |= {"result_files": [file.id for file in results]}
            session.execute(update(Job).where(Job.id == job_id).values(**values))
            message = f"The job has succeeded; the model {fine_tuned_model} is ready"
            self._add_event(session, job_id, "succeeded", "info", message, "message", {"metrics": metrics})
        return True

    def fail(self, job_id: str, worker: str, code: str, message: str, param: str | None = None) -> bool:
        with self._database.write() as session:
            if not self._finish(session, job_id, worker, "failed"):
                return False
            error = {"code": code, "message": message, "param": param}
            session.execute(update(Job).where(Job.id == job_id).values(error=error))
            self._add_event(session, job_id, "failed", "error", message, "message", {"code": code})
        return True

    def add_event(
        self, job_id: str, key: str, message: str, level: str = "info", metrics: dict[str, Any] | None = None
    ) -> None:
        """One more event, or none when the job has one under this key. Figures make it a metrics event."""
        kind = "message" if metrics is None else "metrics"
        with self._database.write() as session:
            self._add_event(session, job_id, key, level, message, kind, metrics or {})

    def job_on(self, model: str) -> str | None:
        """The id of a job that has not ended and begins from this model."""
        with self._database.read() as session:
            return session.scalars(select(Job.id).where(Job.model == model, Job.status.in_(OPEN_STATES))).first()

    def ended_before(self, moment: float) -> list[str]:
        """The ids of jobs that ended before that moment, the oldest first."""
        with self._database.read() as session:
            query = select(Job.id).where(Job.finished_at < moment, Job.status.not_in(OPEN_STATES))
            return list(session.scalars(query.order_by(Job.finished_at)))

    def train_loss(self, job_id: str, step: int) -> float | None:
        """The mean training loss that was last reported up to this step."""
        with self._database.read() as session:
            query = select(Event.data).where(Event.job_id == job_id, Event.type == "metrics", Event.key.like("step:%"))
            told = {int(data["step"]): float(data["train_loss"]) for data in session.scalars(query)}
        reported = [number for number in told if number <= step]
        return told[max(reported)] if reported else None

    def figures(self) -> JobFigures:
        now = self.clock()
        held = Job.worker.is_not(None) & Job.status.in_(WORKED_STATES)
        with self._database.read() as session:
            counts = dict(session.execute(select(Job.status, func.count()).group_by(Job.status)).all())
            progress = session.scalars(select(Job.progress).where(Job.status == "running")).first() or {}
            running = session.execute(select(Job.id, Job.claimed_at).where(held, Job.status == "running")).all()
            heard = [max(claimed or 0.0, self._last_event_at(session, job_id)) for job_id, claimed in running]
            overdue = session.scalar(select(self.lease_clock() - func.min(Job.lease_until)).where(held)) or 0.0
        return JobFigures(
            by_state={state: int(counts.get(state, 0)) for state in STATES},
            training_loss=float(progress.get("train_loss", 0.0)),
            tokens_per_second=float(progress.get("tokens_per_second", 0.0)),
            silent_seconds=max(0.0, now - min(heard, default=now)),
            overdue_seconds=max(0.0, overdue),
        )

    @staticmethod
    def _last_event_at(session: Session, job_id: str) -> float:
        newest = select(Event.created_at).where(Event.job_id == job_id).order_by(Event.number.desc()).limit(1)
        return session.scalar(newest) or 0.0

    def has_jobs(self) -> bool:
        with self._database.read() as session:
            return session.scalar(select(func.count()).select_from(Job)) != 0

    def _job(self, session: Session, job_id: str) -> Job:
        job = session.get(Job, job_id)
        if job is None or self.owner not in (None, job.owner):
            raise NotFound(f"fine-tuning job {job_id!r} does not exist", None, "job_not_found")
        return job

    def _update_own(self, job_id: str, worker: str, /, **values: Any) -> bool:
        mine = (Job.id == job_id) & (Job.worker == worker) & Job.status.in_(WORKED_STATES)
        with self._database.write() as session:
            return _rowcount(session.execute(update(Job).where(mine).values(**values))) == 1

    def _finish(self, session: Session, job_id: str, worker: str, status: str) -> bool:
        mine = (Job.id == job_id) & (Job.worker == worker) & Job.status.in_(WORKED_STATES)
        values = {"status": status, "finished_at": self.clock(), "worker": None}
        if _rowcount(session.execute(update(Job).where(mine).values(**values))) != 1:
            return False
        announce(session, f"fine_tuning.job.{status}", job_id, session.get_one(Job, job_id).owner, self.clock())
        return True

    def _add_event(
        self, session: Session, job_id: str, key: str, level: str, message: str, kind: str, data: dict[str, Any]
    ) -> None:
        values = {"id": new_id("ftevent"), "job_id": job_id, "key": key, "created_at": self.clock()}
        values |= {"level": level, "message": message, "type": kind, "data": data}
        self._database.insert_once(session, Event, values)


def refuse_unfit(training: File, validation: File | None, task: str | None = None) -> None:
    """Raises InvalidRequest with every fault the checks have found so far in a job's files.

    The checks took the task that the columns tell; when the job names another one, only its worker can judge.
    """
    if task is not None and training.task is not None and task != training.task:
        return
    faults = [("training_file", fault) for fault in (*training.faults, *training.training_faults)]
    if validation is not None:
        faults += [("validation_file", fault) for fault in validation.faults]
        if training.status == validation.status == "processed" and not training.training_faults:
            faults += [("validation_file", fault) for fault in _mismatches(training, validation)]
    if faults:
        message = "; ".join(f"{param}: {fault}" for param, fault in faults)
        raise InvalidRequest(message, faults[0][0], "invalid_training_data")


def refuse_unlike(asked: Mapping[str, Any], task: str | None) -> None:
    """Raises InvalidRequest for hyperparameters that the task does not have: a figure that its evaluations do not give,
    the few-shot method where texts have no single label. A task of None is not known yet."""
    if task not in (None, "classification") and asked.get("training_method") == "few_shot":
        message = f"training_method is 'few_shot', which learns one label a text, not {task!r}; leave it out"
        raise InvalidRequest(message, "training_method", "invalid_value")
    metric, known = asked.get("metric"), METRICS.get(task or "")
    if metric is not None and known is not None and metric not in known:
        message = f"metric is {metric!r}; for {task} choose one of {list(known)}"
        raise InvalidRequest(message, "metric", "invalid_value")


def _mismatches(training: File, validation: File) -> list[str]:
    """Why two good files don't go together."""
    if training.task != validation.task:
        return [f"its rows are for {validation.task!r}, those of the training file for {training.task!r}"]
    unseen = sorted(set(validation.labels) - set(training.labels))
    if unseen:
        return [f"labels {unseen[:20]} are not in the training file, whose labels are {training.labels[:20]}"]
    return []


def request_key(fields: dict[str, Any]) -> str:
    """The same for the same request, and short however large that is: an index of PostgreSQL takes 2,704 bytes."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _event_number(session: Session, job_id: str, event_id: str) -> int:
    number = session.scalar(select(Event.number).where(Event.id == event_id, Event.job_id == job_id))
    if number is None:
        raise NotFound(f"event {event_id!r} does not exist in job {job_id}", "after")
    return number


def _rowcount(result: Any) -> int:
    return int(result.rowcount)
