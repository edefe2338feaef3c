"""Takes a backup, while the service runs or not. Used by `backup_cli.py`.

The store is copied by SQLite's own online backup: it is of one moment. Files and models never change under their names,
so they are linked aside, where nobody deletes them, before they are read.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO

from service import VERSION
from service.backup.archive import AUDIT, FORMAT, MANIFEST, MODEL_FILE, STORE, Manifest, Member, TellBytes, store_of
from service.errors import InvalidRequest
from service.settings import Settings
from service.tables import SCHEMA_VERSION


def back_up(settings: Settings, target: Path, tell: TellBytes = lambda *_: None) -> Manifest:
    """Writes the archive under a temporary name, then renames it. Raises InvalidRequest for a service whose state lies
    elsewhere, and for a name that is taken."""
    store = store_of(settings)
    if not store.is_file():
        raise InvalidRequest(f"there is no service's store at {store}; set VITRINE_HOME to its state folder")
    if target.exists():
        raise InvalidRequest(f"{target} exists; choose another name, a backup overwrites nothing")
    partly = target.with_name(f".{target.name}.part")
    partly.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=settings.home) as folder:
        _set_aside(settings, store, Path(folder))
        try:
            descriptor = os.open(partly, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it holds webhooks' secrets
            with open(descriptor, "wb") as file:
                manifest = _write(Path(folder), file, tell)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partly, target)
        finally:
            partly.unlink(missing_ok=True)
    return manifest


def _set_aside(settings: Settings, store: Path, folder: Path) -> None:
    """Fills a folder with all that belongs to the archive, most of it by links."""
    _copy_store(store, folder / STORE)
    (folder / "files").mkdir()
    with contextlib.closing(sqlite3.connect(folder / STORE)) as copy, copy:
        for (file_id,) in copy.execute("SELECT id FROM files").fetchall():
            try:
                _take(settings.files / file_id, folder / "files" / file_id)
            except FileNotFoundError:  # deleted since the copy was made: then its row is gone, too
                copy.execute("DELETE FROM files WHERE id = ?", (file_id,))
                copy.execute("DELETE FROM file_reports WHERE file_id = ?", (file_id,))
    models = settings.bentoml_home / "models"
    for mark in models.glob(f"*/*/{MODEL_FILE}"):
        target = folder / "models" / mark.parent.relative_to(models)
        try:
            for path in mark.parent.rglob("*"):
                if path.is_file():
                    _take(path, target / path.relative_to(mark.parent))
        except FileNotFoundError:  # the model is being deleted
            shutil.rmtree(target, ignore_errors=True)
    for latest in models.glob("*/latest"):
        if (folder / "models" / latest.parent.name / latest.read_text(encoding="utf-8").strip()).is_dir():
            _take(latest, folder / "models" / latest.relative_to(models))
    if settings.audit_log.is_file():
        shutil.copyfile(settings.audit_log, folder / AUDIT)  # it grows


def _copy_store(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as live, contextlib.closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


class _Hashed(io.RawIOBase):
    """A file that is hashed and counted as it is read."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.digest.update(content)
        self._tell(len(content))
        return content


def _write(folder: Path, file: IO[bytes], tell: TellBytes) -> Manifest:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in paths)
    now = time.time()
    members = []
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path in paths:
            with path.open("rb") as content:
                hashed = _Hashed(content, lambda count: tell(count, total))
                info = _info(path.relative_to(folder).as_posix(), path.stat().st_size, now)
                archive.addfile(info, hashed)
            members.append(Member(info.name, info.size, hashed.digest.hexdigest()))
        manifest = Manifest(FORMAT, SCHEMA_VERSION, VERSION, now, tuple(members))
        content_bytes = json.dumps(asdict(manifest), indent=1).encode()
        archive.addfile(_info(MANIFEST, len(content_bytes), now), io.BytesIO(content_bytes))
    return manifest


def _info(name: str, size: int, now: float) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(now), 0o600
    return info
