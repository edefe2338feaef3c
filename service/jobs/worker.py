"""The job worker: runs fine-tuning jobs, one at a time, and checks uploads beside them, in a process of its own
(`process.py`). It is the one place of the service that imports training, with its parts `checks.py` and `wishes.py`.
"""

import contextlib
import gc
import io
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sqlalchemy.exc import SQLAlchemyError

from service.aliases import AliasStore
from service.artefacts import RETRY_SECONDS, Artefacts
from service.database import Database
from service.engine.spans import Part, in_trace
from service.errors import ArtefactsUnavailable, Conflict, InvalidRequest, NotFound, ServiceError
from service.files import FileStorage
from service.heap import give_back
from service.jobs.checks import Checks
from service.jobs.executors import OnRay
from service.jobs.lease import Lease
from service.jobs.repeat import repeating
from service.jobs.results import results_of
from service.jobs.shared_run import CHECKPOINT, SharedRun
from service.jobs.store import MAX_ATTEMPTS, JobStore, refuse_unfit, refuse_unlike
from service.jobs.wishes import hyperparameters_of, name_model, wishes_of
from service.logs import about
from service.model_card import CARD_FILE, model_card
from service.model_store import ModelStore
from service.placement import Place, gpu_count, training_place
from service.settings import Settings
from service.tables import File, Job
from service.traces import Traces
from training.checkpoints import remove_checkpoints
from training.choose import Chosen, choose_recipe
from training.config import Recipe
from training.data import DataFaults
from training.evaluation.files import PREDICTIONS_FILE, REPORT_FILE
from training.events import Evaluated, Finishing, Noted, Progress, Started, TrainingEvent
from training.finetune import Data, finetune, load_data, snapshot_folder
from training.gradients import NonFiniteLoss
from training.parallel import ALONE, World, another_has_ended
from training.results import MANIFEST_FILE, read_manifest
from training.trainer import Interrupted

POLL_SECONDS = 0.5
log = logging.getLogger("vitrine.worker")


class Worker:
    """Claims, runs, reports. Everything it knows is in the store, so that a killed worker loses nothing."""

    def __init__(
        self,
        settings: Settings,
        name: str | None = None,
        device: torch.device | None = None,
        beside: bool = False,
        leaving: threading.Event | None = None,
        traces: Traces | None = None,
    ) -> None:
        """`beside` a service on this host, whose GPUs it leaves alone unless the settings say otherwise. `leaving` set:
        the worker lets its job go after the step it is in, and ends."""
        self.settings = settings
        self.name = name or f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(3)}"
        self.database = Database(settings.database_url)
        self.store = JobStore(self.database)
        self.aliases = AliasStore(self.database)
        self.artefacts = Artefacts.of(settings.artefacts, settings.shared)
        self.models = ModelStore.of(settings)
        self.files = FileStorage.of(settings)
        self.checks = Checks(self.store, self.files, self.models, settings.default_model)
        serving = settings.api_workers if beside else 0
        own = training_place(settings.device, settings.training_gpu, serving, gpu_count())
        self.place = own if device is None else Place(device)
        self.leaving = leaving or threading.Event()
        self.cluster = OnRay(settings, self.store, self.name, self.leaving) if settings.executor == "ray" else None
        self.traces = traces

    def run(self, idle_seconds: float | None = None) -> None:
        """Until it must leave, or there has been no work for so long."""
        worked_at, rests = time.monotonic(), True
        while not self.leaving.is_set() and (idle_seconds is None or time.monotonic() - worked_at < idle_seconds):
            try:
                busy = self.work_once()
            except (SQLAlchemyError, ArtefactsUnavailable):  # a full disk, a restart: the next turn tries again
                log.exception("the store did not answer")
                busy = False
            if busy:
                worked_at, rests = time.monotonic(), False
                continue
            if not rests:  # what the last run took and no longer needs
                gc.collect()
                give_back()
                rests = True
            self.leaving.wait(POLL_SECONDS)
        self.database.close()

    def work_once(self) -> bool:
        """Checks one file, makes one report or runs one job; False when there was nothing to do."""
        if self.checks.check_once():
            return True
        job = self.store.claim_job(self.name, self.settings.lease_seconds)
        if job is None:
            return False
        with about(job=job.id) as ids, self._traced(job, ids):
            log.info("job %s is taken up, attempt %d", job.id, job.attempts)
            self.run_job(job)
        return True

    @contextlib.contextmanager
    def _traced(self, job: Job, ids: dict[str, str]) -> Iterator[None]:
        """Within, what is done for the job is a trace, linked to the request that made it."""
        trace = None
        if self.traces is not None:
            created_by = None
            with contextlib.suppress(SQLAlchemyError):  # the job is claimed: it is worked on with or without
                created_by = self.store.created_by(job.id)
            trace = self.traces.job(ids, created_by)
            if trace is not None:
                trace.tell(job=job.id, model=job.model, attempt=job.attempts, owner=job.owner)
        try:
            with in_trace(trace):
                yield
        finally:
            if trace is not None:
                status = self._status(job.id)
                trace.tell(status=status)
                trace.end("job", "failed" if status == "failed" else None)

    def _status(self, job_id: str) -> str:
        try:
            return self.store.job(job_id).status
        except (SQLAlchemyError, NotFound):
            return "unknown"

    def run_job(self, job: Job) -> None:
        if job.attempts > MAX_ATTEMPTS:
            message = f"the worker died {MAX_ATTEMPTS} times on this job; the machine may lack memory for it"
            self.store.fail(job.id, self.name, "worker_died", message)
            return
        lease = self._lease(job)
        beats = repeating("vitrine-heartbeat", self.settings.lease_seconds / 4, lease.beat)
        with beats, repeating("vitrine-checks", POLL_SECONDS, self.checks.check_once):
            if self.cluster is not None:
                self.cluster.run(job, lease)
            else:
                self._attempt(job, lease, ALONE)

    def take_part(self, job_id: str, world: World) -> None:
        """As one of the processes that train a job together; the first reports, in the name of who holds the lease."""
        job = self.store.job(job_id)
        if world.leads:
            self._attempt(job, self._lease(job), world)
            return
        with contextlib.suppress(Interrupted, ServiceError, ValueError, NonFiniteLoss):  # the first meets it, and tells
            self._tune(job, None, world)

    def _lease(self, job: Job) -> Lease:
        seconds = self.settings.lease_seconds
        return Lease(self.store, job.id, self.name, seconds, job.priority, self.leaving)

    def _attempt(self, job: Job, lease: Lease, world: World) -> None:
        """Trains the job, and stores how that ended."""
        try:
            with lease.alone(self.settings.runs / job.id) as alone:
                if not alone:
                    raise Interrupted("another worker of this machine is still amid a step of this job")
                self._tune(job, lease, world)
        except Interrupted as how:
            log.info("job %s: %s", job.id, how)
            lease.let_go()
        except ArtefactsUnavailable as error:
            log.exception("job %s waits", job.id)
            message = f"{error}; the job goes on from its last checkpoint when it does"
            self.store.put_off(job.id, self.name, message)
            time.sleep(RETRY_SECONDS)
        except (InvalidRequest, NotFound) as error:
            code, param = error.code or "invalid_training_data", error.param or "training_file"
            self.store.fail(job.id, self.name, code, str(error), param)
        except DataFaults as error:
            self.store.fail(job.id, self.name, "invalid_training_data", str(error), "training_file")
        except (NonFiniteLoss, ValueError) as error:
            self.store.fail(job.id, self.name, "training_failed", str(error))
        except SQLAlchemyError:
            log.exception("the store failed amid job %s; it is taken up again when its lease is over", job.id)
        except OSError as error:
            log.exception("job %s failed", job.id)
            what = error.strerror or type(error).__name__
            message = f"the machine could not read or write the run's files ({what}); check its disk, then submit again"
            self.store.fail(job.id, self.name, "storage", message)
        except Exception as error:
            if world.size > 1 and another_has_ended(error):
                raise  # the job goes on elsewhere
            log.exception("job %s failed", job.id)
            self.store.fail(job.id, self.name, "internal", f"{type(error).__name__}: {error}")

    def _tune(self, job: Job, lease: Lease | None, world: World) -> None:
        """In the first process with the lease, in the others without."""
        training = self.store.file(job.training_file, "training_file")
        validation = self.store.file(job.validation_file, "validation_file") if job.validation_file else None
        task = job.hyperparameters.get("task")
        refuse_unfit(training, validation, task)
        wanted, multiplier = wishes_of(job)
        validation_path = self.files.path(validation.id) if validation else None
        with Part("check data") as known:
            data = load_data(self.files.path(training.id), validation_path, Recipe(seed=job.seed), task)
            known |= {"rows": len(data.train.rows), "task": data.task}
        refuse_unlike(job.hyperparameters, data.task)
        if not world.from_leader(lambda: self.store.start_running(job.id, self.name)):
            return
        base = self.models.find(job.model)
        with Part("choose recipe"):
            chosen = world.from_leader(lambda: choose_recipe(wanted, data, base.folder, multiplier))
        if world.leads:
            self._tell_choices(job, data, chosen, multiplier)
            if self.place.note:
                self.store.add_event(job.id, "placed", f"The job {self.place.note}", level="warn")
        output = self.settings.runs / job.id
        shared = SharedRun(self.artefacts, job.id, output)
        tokens = 0
        if not world.from_leader((output / MANIFEST_FILE).is_file):  # else a worker died before it told the store
            if world.size == 1 or int(os.environ["LOCAL_RANK"]) == 0:  # one process a machine
                shared.fetch()
            world.wait()
            with Part("train", device=str(self.place.device)) as known:
                for event in finetune(
                    base.folder, data, chosen.recipe, output, self.place.device, job.model, self.models.bases(), world,
                    interrupted=lease.over if lease else lambda: False, snapshots=self.settings.keep_checkpoints > 0,
                    saved=lambda: self._give(job.id, shared),
                ):  # fmt: skip
                    if isinstance(event, Progress):
                        tokens = event.tokens_seen
                        known |= {"step": event.step, "tokens": tokens}
                    if world.leads:
                        self._report(job, event)
                    if world.leads and isinstance(event, Evaluated):
                        with Part("publish checkpoint", step=event.step):
                            self._publish_snapshot(job, event, output)
        if world.leads:
            held_out = validation.filename if validation else f"the held-out part of {training.filename}"
            with Part("publish"):
                published = self._publish(job, output, training.filename, held_out, tokens)
            if published:
                shared.drop()

    def _tell_choices(self, job: Job, data: Data, chosen: Chosen, multiplier: float) -> None:
        settled = job.hyperparameters | hyperparameters_of(chosen, multiplier, data) | {"task": data.task}
        self.store.set_progress(job.id, self.name, hyperparameters=settled)
        message = f"Files validated: {len(data.train.rows)} training rows for {data.task}"
        self.store.add_event(job.id, "validated", message)
        for warning in map(str, data.warnings):
            self.store.add_event(job.id, f"noted:{warning}", warning, level="warn")
        for choice in map(str, chosen.choices):
            self.store.add_event(job.id, f"chosen:{choice}", f"Chosen: {choice}")

    def _publish(self, job: Job, output: Path, training_file: str, held_out: str, tokens: int) -> bool:
        """Makes the model callable and the job succeeded, the same again after a crash -> whether it was ours to."""
        manifest = read_manifest(output)
        model_id, tag = name_model(job)
        self._write_card(job, output, model_id, training_file)
        self.models.publish(output / "model", model_id, tag, job.model, manifest["metrics"], job.owner)
        tokens = tokens or int((job.progress or {}).get("tokens_seen", 0))
        results = self._write_results(job, output, model_id, held_out)
        if self.store.succeed(job.id, self.name, model_id, manifest["metrics"], tokens, results):
            remove_checkpoints(output / CHECKPOINT)
            return True
        if self.store.job(job.id).status == "cancelled":  # while its model was being published
            with contextlib.suppress(NotFound):  # whoever cancelled it was faster
                self.models.delete(model_id)
            for file in results:
                self.files.delete(file.id)
        return False

    def _give(self, job_id: str, shared: SharedRun) -> None:
        """Not over what another worker has given since it took the job."""
        if self.store.job(job_id).worker in (None, self.name):
            shared.give()

    def _write_card(self, job: Job, output: Path, model_id: str, training_file: str) -> None:
        if (output / REPORT_FILE).is_file():  # else a run that an earlier version finished
            evaluation = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
            card = model_card(model_id, job.model, read_manifest(output), evaluation, training_file)
            (output / "model" / CARD_FILE).write_text(card, encoding="utf-8")

    def _write_results(self, job: Job, output: Path, model_id: str, held_out: str) -> list[File]:
        """Puts the bytes of the result files in place, the same again after a crash -> their rows, not stored yet."""
        if not (output / REPORT_FILE).is_file():  # a run that an earlier version finished
            return []
        evaluation = json.loads((output / REPORT_FILE).read_text(encoding="utf-8"))
        evaluation |= {"model": model_id, "data": held_out}
        results = results_of(job.id, evaluation, (output / PREDICTIONS_FILE).read_bytes())
        for result in results:
            self.files.write(result.id, io.BytesIO(result.content))
        return [result.row(self.store.clock(), job.owner) for result in results]

    def _publish_snapshot(self, job: Job, event: Evaluated, output: Path) -> None:
        """Makes the model of an evaluation callable; all but the newest ones of this job go."""
        folder = snapshot_folder(output, event.step)
        if not folder.is_dir():
            return
        model_id, tag = name_model(job)
        bento, _, version = tag.partition(":")
        name, tag = f"{model_id}:ckpt-step-{event.step}", f"{bento}:ckpt{event.step}-{version}"
        figures = event.evaluation.figures()
        self.models.publish(folder, name, tag, job.model, figures, job.owner)
        loss, accuracy = figures.get("loss"), figures.get("accuracy")
        metrics = {"step": event.step, "train_loss": self.store.train_loss(job.id, event.step)}
        metrics |= {"valid_loss": loss, "valid_mean_token_accuracy": accuracy}
        metrics |= {"full_valid_loss": loss, "full_valid_mean_token_accuracy": accuracy}
        self.store.add_checkpoint(job.id, event.step, name, metrics | {f"valid_{key}": figures[key] for key in figures})
        shutil.rmtree(folder)
        newest, _ = self.store.list_checkpoints(job.id, None, 10_000)
        for old in newest[self.settings.keep_checkpoints :]:
            self._drop_checkpoint(old.model)

    def _drop_checkpoint(self, model_id: str) -> None:
        """One that an alias stands for, an adapter lies over or an open job begins from stays."""
        if self.aliases.of_model(model_id) or self.store.job_on(model_id) is not None:
            return
        with contextlib.suppress(NotFound):
            try:
                self.models.delete(model_id)
            except Conflict:
                return
        self.store.remove_checkpoint(model_id)

    def _report(self, job: Job, event: TrainingEvent) -> None:
        """Stores one training event."""
        if isinstance(event, Started):
            message = f"Training started: {event.total_steps} steps in {event.dtype}"
            self.store.add_event(job.id, "started", message)
            fields: dict[str, Any] = {"step": event.step, "total_steps": event.total_steps, "epoch": 0.0}
            before = {name: value for name, value in (job.progress or {}).items() if name != "finishing"}
            self.store.set_progress(job.id, self.name, progress=before | fields)
        elif isinstance(event, Noted):
            self.store.add_event(job.id, f"noted:{event.message}", event.message, level="warn")
        elif isinstance(event, Evaluated):
            figures = event.evaluation.figures()
            data = {"step": event.step} | {f"valid_{name}": value for name, value in figures.items()}
            message = f"Step {event.step}: validation {event.evaluation.summary()}"
            self.store.add_event(job.id, f"evaluated:{event.step}", message, metrics=data)
        elif isinstance(event, Finishing):
            self.store.add_event(job.id, f"finishing:{event.what}", event.what)
            so_far = self.store.job(job.id).progress or {}
            self.store.set_progress(job.id, self.name, progress=so_far | {"finishing": event.what})
        else:
            data = dict(event.__dict__)
            message = f"Step {event.step}/{event.total_steps}: training loss {event.train_loss:.4f}"
            self.store.add_event(job.id, f"step:{event.step}", message, metrics=data)
            values: dict[str, Any] = {"progress": data, "trained_tokens": event.tokens_seen}
            if event.step > int((job.progress or {}).get("step", 0)):
                values["attempts"] = 1  # further than any worker before: those that died did so by accident
            self.store.set_progress(job.id, self.name, **values)
