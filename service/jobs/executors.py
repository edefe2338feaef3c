"""Where a claimed job is trained: in this worker's process, or on a Ray cluster. Used by `worker.py`.

On a cluster the worker only watches: it holds the lease, and the processes on the nodes act in its name (`member.py`).
How a job has ended is read from the store alone; what Ray says of its own job decides nothing but when to look.
"""

import logging
import secrets
import shlex
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
FAREWELL_SECONDS = 30.0  # for processes that must let a job go: the step they are in, and its checkpoint
RETRY_SECONDS = 5.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")  # of Ray's own statuses
log = logging.getLogger("vitrine.executors")


class OnRay:
    """Submits each job to a Ray cluster's Jobs API. The nodes have Vitrine installed, and VITRINE_DATABASE and
    VITRINE_ARTEFACTS in their own environment: no secret travels with a job."""

    def __init__(self, settings: Settings, store: JobStore, worker: str) -> None:
        self._settings = settings
        self._store = store
        self._worker = worker
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
            self._give_back(job, "the Ray cluster takes no jobs")
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
                self._give_back(job, f"the Ray cluster has not answered for {SILENCE_SECONDS:.0f} s")
                return
        lease.let_go()  # so that its processes hear of it
        self._see_off(submission)

    def _submit(self, job: Job, submission: str) -> str:
        if self._client is None:
            from ray.job_submission import JobSubmissionClient  # only where it is installed

            self._client = JobSubmissionClient(self._settings.ray_address)
        return str(self._client.submit_job(entrypoint=self.entrypoint(job), submission_id=submission))

    def _status(self, submission: str) -> str | None:
        return self._answer(lambda: str(self._client.get_job_status(submission).value))

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
        time.sleep(RETRY_SECONDS)

    @staticmethod
    def _answer(question: Callable[[], str]) -> str | None:
        """None when the cluster does not answer."""
        try:
            return question()
        except ImportError as error:
            raise ValueError("VITRINE_EXECUTOR is 'ray', and Ray is not installed; install vitrine[ray]") from error
        except Exception:  # its client raises RuntimeError, and whatever its transport raises
            log.warning("the Ray cluster did not answer", exc_info=True)
            return None
