"""Uploaded files, what was found in them and their reports, as an owner sees them. The base of `store.py`: a job and
its files stand in one transaction. The bytes are `service/files.py`'s.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self, TypeVar

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from service.database import Store, page
from service.errors import Conflict, NotFound, TooLarge
from service.jobs.states import OPEN_BATCHES, OPEN_STATES
from service.tables import LOCAL_OWNER, Batch, File, FileReport, Job

Owned = TypeVar("Owned", File, Job)


class FileStore(Store):
    """Every change is one transaction."""

    owner: str | None = None  # whose rows are seen; None sees all, see `of`

    def of(self, owner: str) -> Self:
        """The same store as this owner sees it: the files and jobs of others are not there."""
        view = copy.copy(self)
        view.owner = owner
        return view

    def add_file(
        self, file_id: str, filename: str, size: int, purpose: str, lives_seconds: float | None = None,
        most_bytes: int = 0,
    ) -> File:  # fmt: skip
        """A file with `lives_seconds` deletes itself after that time. Raises TooLarge when the owner's files would have
        more than `most_bytes`, if there is such a limit."""
        now, owner = self.clock(), self.owner or LOCAL_OWNER
        expires_at = None if lives_seconds is None else now + lives_seconds
        with self._database.write() as session:
            if most_bytes:
                used = int(session.scalar(select(func.sum(File.bytes)).where(File.owner == owner)) or 0)
                if used + size > most_bytes:
                    message = f"{owner!r} has files of {used} bytes, {size} more would pass the limit of {most_bytes}"
                    raise TooLarge(f"{message}; delete some", "file", "storage_limit_exceeded")
            status = "uploaded" if purpose == "fine-tune" else "processed"  # rows to train on are looked into first
            file = File(
                id=file_id, created_at=now, expires_at=expires_at, filename=filename, bytes=size, purpose=purpose,
                status=status, faults=[], training_faults=[], labels=[], num_rows=0, warnings=[], owner=owner,
            )  # fmt: skip
            session.add(file)
        return file

    def file(self, file_id: str, param: str | None = None) -> File:
        with self._database.read() as session:
            return self._file(session, file_id, param)

    def list_files(
        self, purpose: str | None, after: str | None, limit: int, descending: bool
    ) -> tuple[list[File], bool]:
        query = self._mine(select(File), File)
        if purpose is not None:
            query = query.where(File.purpose == purpose)
        with self._database.read() as session:
            return page(session, query, File, after, limit, descending)

    def file_ids(self) -> set[str]:
        """Of all owners."""
        with self._database.read() as session:
            return set(session.scalars(select(File.id)))

    def open_batches(self) -> set[str]:
        """Those of all owners that may go on."""
        with self._database.read() as session:
            return set(session.scalars(select(Batch.id).where(Batch.status.in_(OPEN_BATCHES))))

    def unchecked_file(self) -> File | None:
        with self._database.read() as session:
            waits = (File.status == "uploaded") & (File.purpose == "fine-tune")
            return session.scalars(select(File).where(waits).order_by(File.created_at)).first()

    def set_file_checked(
        self, file_id: str, faults: list[str], training_faults: list[str], labels: list[str], num_rows: int,
        task: str | None = None, warnings: Sequence[str] = (),
    ) -> None:  # fmt: skip
        status = "error" if faults else "processed"
        values = {"status": status, "faults": faults, "training_faults": training_faults, "labels": labels}
        found = {"task": task, "warnings": list(warnings), "num_rows": num_rows}
        with self._database.write() as session:
            session.execute(update(File).where(File.id == file_id).values(**values, **found))

    def set_file_warnings(self, file_id: str, warnings: Sequence[str]) -> None:
        with self._database.write() as session:
            session.execute(update(File).where(File.id == file_id).values(warnings=list(warnings)))

    def expired_file(self) -> str | None:
        """One whose time is over and that no job needs any more."""
        needed = select(Job.id).where(
            (Job.training_file == File.id) | (Job.validation_file == File.id), Job.status.in_(OPEN_STATES)
        )
        read = select(Batch.id).where(Batch.input_file == File.id, Batch.status.in_(OPEN_BATCHES))
        with self._database.read() as session:
            query = select(File.id).where(File.expires_at < self.clock(), ~needed.exists(), ~read.exists())
            return session.scalars(query.order_by(File.expires_at)).first()

    # Reports: a row without report or error is a request that the worker answers

    def report(self, file_id: str, model: str) -> FileReport:
        """The report of a file under this model's tokenizer, asked for when there is none yet."""
        with self._database.write() as session:
            self._file(session, file_id, None)
            values = {"file_id": file_id, "model": model, "requested_at": self.clock()}
            self._database.insert_once(session, FileReport, values)
            return session.get_one(FileReport, (file_id, model))

    def pending_report(self) -> FileReport | None:
        """The oldest request whose file has been checked."""
        pending = FileReport.report.is_(None) & FileReport.error.is_(None) & (File.status != "uploaded")
        query = select(FileReport).join(File, File.id == FileReport.file_id).where(pending)
        with self._database.read() as session:
            return session.scalars(query.order_by(FileReport.requested_at)).first()

    def set_report(self, file_id: str, model: str, report: dict[str, Any] | None, error: str | None = None) -> None:
        """Answers a request; one whose file was deleted meanwhile is gone, and so is its report."""
        mine = (FileReport.file_id == file_id) & (FileReport.model == model)
        with self._database.write() as session:
            session.execute(update(FileReport).where(mine).values(report=report, error=error))

    def delete_file(self, file_id: str) -> None:
        """Raises Conflict while a job that has not ended needs the file."""
        with self._database.write() as session:
            file = self._file(session, file_id, None)
            uses = (Job.training_file == file_id) | (Job.validation_file == file_id)
            users = session.scalars(select(Job.id).where(uses, Job.status.in_(OPEN_STATES))).all()
            if users:
                raise Conflict(f"file {file_id} is needed by {users[0]}, which has not ended; cancel the job first")
            reads = (Batch.input_file == file_id) & Batch.status.in_(OPEN_BATCHES)
            if (reader := session.scalars(select(Batch.id).where(reads)).first()) is not None:
                raise Conflict(f"file {file_id} is needed by {reader}, which has not ended; cancel the batch first")
            session.execute(delete(FileReport).where(FileReport.file_id == file_id))
            session.delete(file)

    def _file(self, session: Session, file_id: str, param: str | None) -> File:
        file = session.get(File, file_id)
        if file is None or self.owner not in (None, file.owner):
            message = f"file {file_id!r} does not exist; upload it with POST /v1/files first"
            raise NotFound(message, param, "file_not_found")
        return file

    def _mine(self, query: Select[Owned], table: type[Owned]) -> Select[Owned]:
        return query if self.owner is None else query.where(table.owner == self.owner)
