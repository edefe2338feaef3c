"""Where a claimed job is trained: in this worker's process, or on a Ray cluster. Used by `worker.py`.

On a cluster the worker only watches: it holds the lease, and the processes on the nodes act in its name (`member.py`).
How a job has ended is read from the store alone; what Ray says of its own job decides nothing but when to look.
"""

import importlib.util
import logging
import secrets
import shlex
import threading
import time
from collections.abc import Callable
from typing import Any

from service.ids import new_id
from service.jobs.lease import Lease
from service.jobs.store import JobStore
from service.settings import Settings
from service.tables import Job

POLL_SECONDS = 0.5
SILENCE_SECONDS = 60.0  # of a cluster, before the job goes back to the queue
AWAY_SECONDS = 30.0  # before a silent cluster is offered a job again; what it still runs lets go meanwhile
FAREWELL_SECONDS = 30.0  # for processes that must let a job go: the step they are in, and its checkpoint
RETRY_SECONDS = 5.0
UNKNOWN = "UNKNOWN"  # to the cluster, which has started anew
ENDED = ("SUCCEEDED", "FAILED", "STOPPED", UNKNOWN)  # the first three are Ray's own
log = logging.getLogger("vitrine.executors")


class OnRay:
    """Submits each job to a Ray cluster's Jobs API. The nodes have Vitrine installed, and VITRINE_DATABASE and
    VITRINE_ARTEFACTS in their own environment: no secret travels with a job."""

    def __init__(self, settings: Settings, store: JobStore, worker: str, leaving: threading.Event) -> None:
        """`leaving` is set when the worker must stop. Raises ValueError where Ray is not installed."""
        if importlib.util.find_spec("ray") is None:
            raise ValueError("VITRINE_EXECUTOR is 'ray', and Ray is not installed; install vitrine[ray]")
        self._settings = settings
        self._store = store
        self._worker = worker
        self._leaving = leaving
        self._client: Any = None

    def entrypoint(self, job: Job) -> str:
        """The command that Ray runs: it starts `member.py` on the nodes."""
        nodes, gpus = self._settings.ray_nodes, self._settings.ray_gpus
        options = {"--worker": self._worker, "--nodes": nodes, "--gpus": gpus}
        return shlex.join(["vitrine", "on-ray", job.id, *(str(part) for option in options.items() for part in option)])

    def run(self, job: Job, lease: Lease) -> None:
        """Until the job has ended, is no longer this worker's, or must be tried again; the store tells which."""
        submission = f"{job.id}-{job.attempts}-{secrets.token_hex(3)}"
        if self._answer(lambda: self._submit(job, submission)) is None:
            self._await_cluster(job, "the Ray cluster takes no jobs; the job waits for it")
            return
        self._store.add_event(job.id, f"submitted:{submission}", f"Submitted to the Ray cluster as {submission}")
        heard = time.monotonic()
        while not lease.over():
            time.sleep(POLL_SECONDS)
            status = self._status(submission)
            heard = time.monotonic() if status else heard
            if status in ENDED:
                if self._store.holds(job.id, self._worker):
                    log.warning(
                        "%s: %s", submission, self._answer(lambda: self._client.get_job_logs(submission)[-3000:])
                    )
                    self._give_back(job, f"the run on the cluster is gone without a result (Ray: {status})")
                return
            if time.monotonic() - heard > SILENCE_SECONDS:
                what = f"the Ray cluster has not answered for {SILENCE_SECONDS:.0f} s"
                self._await_cluster(job, f"{what}; the job goes on from its last checkpoint when it does")
                return
        lease.let_go()  # so that its processes hear of it
        self._see_off(submission)

    def _submit(self, job: Job, submission: str) -> str:
        if self._client is None:
            from ray.job_submission import JobSubmissionClient  # only where it is installed

            self._client = JobSubmissionClient(self._settings.ray_address)
        return str(self._client.submit_job(entrypoint=self.entrypoint(job), submission_id=submission))

    def _status(self, submission: str) -> str | None:
        """None when the cluster does not answer."""

        def ask() -> str:
            try:
                return str(self._client.get_job_status(submission).value)
            except RuntimeError:  # also when there is no such job
                if any(one.submission_id == submission for one in self._client.list_jobs()):
                    raise
                return UNKNOWN

        return self._answer(ask)

    def _see_off(self, submission: str) -> None:
        """The job has ended, or is no longer ours: then its processes leave after their step, with a checkpoint. Those
        that don't are ended."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._status(submission) not in ENDED:
            if time.monotonic() > deadline:
                self._answer(lambda: str(self._client.stop_job(submission)))
                return
            time.sleep(POLL_SECONDS)

    def _give_back(self, job: Job, what: str) -> None:
        """To be tried again, as one more attempt, after some pause."""
        message = f"{what}; the job goes on from its last checkpoint"
        self._store.add_event(job.id, f"returned:{new_id('turn')}", message, level="warn")
        self._store.give_back(job.id, self._worker)
        self._leaving.wait(RETRY_SECONDS)

    def _await_cluster(self, job: Job, what: str) -> None:
        """Nothing is known to have gone wrong with the job: this was no attempt."""
        self._store.put_off(job.id, self._worker, what)
        self._leaving.wait(AWAY_SECONDS)

    @staticmethod
    def _answer(question: Callable[[], str]) -> str | None:
        """None when the cluster does not answer."""
        try:
            return question()
        except Exception:  # its client raises RuntimeError, and whatever its transport raises
            log.warning("the Ray cluster did not answer", exc_info=True)
            return None
