"""Bulk prediction: the store of batches. `bulk.py` works them off, the routes show them.

A batch is durable like a job: a lease says who works on it, and what is on disk for good stands in its row (bytes of
the answers, requests done), so that whoever takes it over cuts the files back to that and goes on from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.database import Store, page
from service.errors import Busy, Conflict, InvalidRequest, NotFound
from service.ids import new_id
from service.jobs.announce import announce
from service.jobs.states import OPEN_BATCHES
from service.tables import Batch, File

WINDOW_SECONDS = 24 * 3600.0
MAX_OPEN = 100  # of one owner
OUTPUT_PURPOSE = "batch_output"


@dataclass(frozen=True)
class Done:
    """How far a batch is, of what is flushed to disk."""

    completed: int
    failed: int
    tokens: int
    output_bytes: int
    error_bytes: int


class BatchStore(Store):
    """In the database of the service."""

    def create(
        self, owner: str, endpoint: str, input_file: str, metadata: dict[str, str],
        output_lives: float | None,
    ) -> Batch:  # fmt: skip
        """Raises NotFound and InvalidRequest for a file that can't be used, Busy for too many open batches."""
        now = self.clock()
        with self._database.write() as session:
            file = session.get(File, input_file)
            if file is None or file.owner != owner:
                message = f"file {input_file!r} does not exist; upload it with POST /v1/files first"
                raise NotFound(message, "input_file_id", "file_not_found")
            if file.purpose != "batch":
                message = f"file {input_file} has the purpose {file.purpose!r}; upload requests with purpose 'batch'"
                raise InvalidRequest(message, "input_file_id")
            own = select(Batch.id).where(Batch.owner == owner, Batch.status.in_(OPEN_BATCHES))
            if len(session.scalars(own).all()) >= MAX_OPEN:
                message = f"{MAX_OPEN} of your batches have not ended, which is the limit; try again when some have"
                raise Busy(message, retry_after_seconds=60)
            batch = Batch(
                id=new_id("batch"), owner=owner, endpoint=endpoint, input_file=input_file,
                meta=metadata, status="validating", errors=[], times={}, created_at=now,
                expires_at=now + WINDOW_SECONDS, output_lives=output_lives, total=0, completed=0, failed=0, tokens=0,
                output_bytes=0, error_bytes=0, output_file=None, error_file=None, worker=None, lease_until=0.0,
            )  # fmt: skip
            session.add(batch)
        return batch

    def get(self, owner: str, batch_id: str) -> Batch:
        with self._database.read() as session:
            return _batch(session, owner, batch_id)

    def batches(self, owner: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """Newest first."""
        with self._database.read() as session:
            return page(session, select(Batch).where(Batch.owner == owner), Batch, after, limit)

    def cancel(self, owner: str, batch_id: str) -> Batch:
        """What is answered stays; the rest is not asked any more. Raises Conflict for a batch that has ended."""
        with self._database.write() as session:
            batch = _batch(session, owner, batch_id)
            if batch.status not in OPEN_BATCHES:
                raise Conflict(f"batch {batch_id} has {batch.status}; only one that has not ended can be cancelled")
            if batch.status != "cancelling":
                _turn(batch, "cancelling", self.clock())
        return batch

    # Those who work

    def claim(self, worker: str, lease_seconds: float) -> Batch | None:
        """The batch that waits longest, or whose worker has died."""
        now = self.lease_clock()
        free = (Batch.lease_until < now) | (Batch.lease_until > now + 2 * lease_seconds)
        query = select(Batch).where(Batch.status.in_(OPEN_BATCHES), free).order_by(Batch.created_at).limit(1)
        with self._database.read() as session:  # asked twice a second: writers need not wait for that
            if session.scalars(query).first() is None:
                return None
        with self._database.write() as session:
            batch = session.scalars(query).first()
            if batch is not None:
                batch.worker, batch.lease_until = worker, self.lease_now(session) + lease_seconds
        return batch

    def begin(self, batch_id: str, worker: str, total: int) -> str | None:
        """The file is good. -> the status, None when the batch is another worker's."""
        return self._change(batch_id, worker, lambda batch: _begin(batch, total, self.clock()))

    def keep(self, batch_id: str, worker: str, done: Done | None, lease_seconds: float) -> str | None:
        """Renews the lease, with what has been done since -> the status, None when it is another worker's."""

        def change(batch: Batch) -> None:
            batch.lease_until = self.lease_clock() + lease_seconds
            if done is not None:
                for name, value in vars(done).items():
                    setattr(batch, name, value)

        return self._change(batch_id, worker, change)

    def finish(
        self, batch_id: str, worker: str, status: str, files: Sequence[File] = (), errors: Sequence[dict[str, Any]] = ()
    ) -> bool:
        """The end; its files become known together with it, or never."""
        now = self.clock()
        with self._database.write() as session:
            batch = session.get(Batch, batch_id)
            if batch is None or batch.worker != worker or batch.status not in OPEN_BATCHES:
                return False
            session.add_all(files)
            for file in files:
                kind = "output_file" if file.filename.endswith("output.jsonl") else "error_file"
                setattr(batch, kind, file.id)
            batch.errors = list(errors)
            batch.worker, batch.lease_until = None, 0.0
            _turn(batch, status, now)
            announce(session, f"batch.{status}", batch_id, batch.owner, now)
        return True

    def release(self, worker: str) -> None:
        """Gives back what this worker holds, so that another goes on at once."""
        with self._database.write() as session:
            session.execute(update(Batch).where(Batch.worker == worker).values(worker=None, lease_until=0.0))

    def _change(self, batch_id: str, worker: str, change: Callable[[Batch], None]) -> str | None:
        with self._database.write() as session:
            batch = session.get(Batch, batch_id)
            if batch is None or batch.worker != worker:
                return None
            change(batch)
            return batch.status


def _begin(batch: Batch, total: int, now: float) -> None:
    batch.total = total
    if batch.status == "validating":
        _turn(batch, "in_progress", now)


def _turn(batch: Batch, status: str, now: float) -> None:
    batch.status, batch.times = status, {**batch.times, status: now}


def _batch(session: Session, owner: str, batch_id: str) -> Batch:
    batch = session.get(Batch, batch_id)
    if batch is None or batch.owner != owner:
        raise NotFound(f"batch {batch_id!r} does not exist; POST /v1/batches makes one", None, "batch_not_found")
    return batch
