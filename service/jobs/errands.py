"""What a worker's process does whether or not there is a job: delivers webhooks, deletes files whose time is over,
frees the disk of old runs and of what is left of files. It needs the database and no torch. Used by `process.py`.
"""

import contextlib
import shutil
from collections.abc import Iterator

from service.artefacts import RUNS, Artefacts, name_of_run
from service.database import Database
from service.errors import Conflict, NotFound
from service.files import FileStorage
from service.jobs.leftovers import SECONDS_BETWEEN, remove_leftovers
from service.jobs.repeat import repeating
from service.jobs.store import JobStore
from service.settings import Settings
from service.webhooks import Deliveries, WebhookStore

POLL_SECONDS = 0.5
EXPIRY_SECONDS = 5.0  # between two looks for files whose time is over
RETENTION_SECONDS = 300.0  # between two looks for old runs
DAY_SECONDS = 86_400.0


class Errands:
    """Each piece is done once, and again if it was not; several processes may run them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.store = JobStore(database)
        self._settings = settings
        self._webhooks = WebhookStore(database)
        self._deliveries = Deliveries(self._webhooks, settings.webhook_private)
        self._files = FileStorage.of(settings)
        self._artefacts = Artefacts.of(settings.artefacts, settings.shared)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Within, they are run beside; each has a thread of its own."""
        with (
            contextlib.closing(self._deliveries),
            repeating("vitrine-webhooks", POLL_SECONDS, self._deliveries.go_on),
            repeating("vitrine-expiry", EXPIRY_SECONDS, self.delete_expired_file),
            repeating("vitrine-retention", RETENTION_SECONDS, self.forget_old_runs),
            repeating("vitrine-leftovers", SECONDS_BETWEEN, self.remove_leftovers),
        ):
            yield

    def delete_expired_file(self) -> bool:
        """One file; False when there is none whose time is over."""
        expired = self.store.expired_file()
        if expired is None:
            return False
        with contextlib.suppress(NotFound, Conflict):  # somebody was faster
            self.store.delete_file(expired)
            self._files.delete(expired)
        return True

    def forget_old_runs(self) -> None:
        """Frees the disk of runs whose time is over, and forgets old deliveries; models and result files stay."""
        runs = self._settings.runs
        there = {path.name for path in runs.iterdir()} if runs.is_dir() else set()
        given = set(self._artefacts.folders(RUNS)) if self._artefacts is not None else set()
        moment = self.store.clock() - self._settings.keep_runs_days * DAY_SECONDS
        self._webhooks.forget(moment)
        ended = self.store.ended_before(moment)
        for job_id in there.intersection(ended):
            shutil.rmtree(runs / job_id, ignore_errors=True)
        if self._artefacts is not None:
            for job_id in given.intersection(ended):
                self._artefacts.delete_folder(name_of_run(job_id))

    def remove_leftovers(self) -> None:
        """Of this host's folder of files."""
        remove_leftovers(self._files, self.store)
