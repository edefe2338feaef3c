"""Takes a backup into an empty state folder. Used by `backup_cli.py`.

An archive may come from anywhere: it is read to the end and checked before anything has its place, and the store, which
makes a folder a service's, comes last.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.backup.archive import AUDIT, FORMAT, MANIFEST, STORE, Manifest, Member, TellBytes, store_of
from service.database import Database, sqlite_url
from service.errors import InvalidRequest
from service.settings import Settings
from service.tables import SCHEMA_VERSION, too_new

CHUNK_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 64 << 20
ID = re.compile(r"[A-Za-z0-9][\w-]{0,99}")  # of what has a place in the state folder
PART = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}")  # of a path


def restore(settings: Settings, source: Path, tell: TellBytes = lambda *_: None) -> Manifest:
    """Into an empty state folder. Everything is read and checked before anything has its place; the store comes last.
    Raises InvalidRequest for an archive that is damaged, odd or of a later version, and for a folder with state."""
    store = store_of(settings)
    _check_empty(settings, store)
    settings.home.mkdir(parents=True, exist_ok=True)
    with _readable(source) as archive, tempfile.TemporaryDirectory(prefix=".restore-", dir=settings.home) as name:
        folder = Path(name)
        manifest = _manifest_of(archive, source)
        free = shutil.disk_usage(folder).free
        if (size := sum(member.size for member in manifest.members)) > free:
            raise InvalidRequest(f"the backup has {size} bytes, the disk of {settings.home} has {free} left; free some")
        _unpack(archive, manifest, folder, tell)
        _check_store(folder / STORE, manifest)
        models = settings.bentoml_home / "models"
        places = {"files": settings.files, "models": models, AUDIT: settings.audit_log, STORE: store}
        for part, place in places.items():
            if (folder / part).exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                if place.is_dir():
                    place.rmdir()  # it is empty
                shutil.move(folder / part, place)  # a rename, unless BENTOML_HOME is on another disk
    return manifest


def _check_empty(settings: Settings, store: Path) -> None:
    models = settings.bentoml_home / "models"
    for folder in (settings.home, models):
        if folder.is_dir() and (there := sorted(path.name for path in folder.iterdir())):
            raise InvalidRequest(
                f"{folder} has {', '.join(there[:3])}; restore into an empty folder: set VITRINE_HOME to a new one, or "
                "move this one away"
            )
    if store.exists():
        raise InvalidRequest(f"{store} exists; move it away, or change VITRINE_DATABASE")


@contextlib.contextmanager
def _readable(source: Path) -> Iterator[tarfile.TarFile]:
    """Raises InvalidRequest for whatever is wrong with the archive, also while it is read."""
    try:
        with tarfile.open(source, mode="r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError, UnicodeError, sqlite3.DatabaseError) as error:
        raise InvalidRequest(f"{source} can't be read as a backup ({error}); take another copy of it") from error


def _manifest_of(archive: tarfile.TarFile, source: Path) -> Manifest:
    """The manifest, once the archive has what it says, in kinds and places that we write, and nothing else."""
    members = archive.getmembers()
    if not members or members[-1].name != MANIFEST or members[-1].size > MAX_MANIFEST_BYTES:
        raise InvalidRequest(f"{source} is not whole: its manifest, which comes last, is not there; take another copy")
    for member in members:
        _check_member(member)
    content = archive.extractfile(members[-1])
    assert content is not None
    try:
        manifest = _parsed(json.loads(content.read()))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"the manifest of {source} is damaged; take another copy of the backup") from error
    if manifest.format > FORMAT:
        raise InvalidRequest(f"{source} is of format {manifest.format}; this version of Vitrine reads up to {FORMAT}")
    if manifest.schema > SCHEMA_VERSION:
        raise InvalidRequest(too_new("the backup", manifest.schema))
    told = sorted((member.name, member.size) for member in manifest.members)
    names = {name for name, _ in told}
    if told != sorted((member.name, member.size) for member in members[:-1]) or len(names) < len(told):
        raise InvalidRequest(f"{source} has not what its manifest says; take another copy of the backup")
    return manifest


def _parsed(told: dict[str, Any]) -> Manifest:
    members = tuple(Member(str(one["name"]), int(one["size"]), str(one["sha256"])) for one in told["members"])
    versions = int(told["format"]), int(told["schema"])
    return Manifest(*versions, str(told["vitrine"]), float(told["created_at"]), members)


def _check_member(member: tarfile.TarInfo) -> None:
    """Only plain files, and only where a backup has some: no link, no device, no way out of the folder."""
    if member.type != tarfile.REGTYPE or member.issparse() or member.size < 0:
        raise InvalidRequest(f"{member.name!r} in the archive is no plain file; a backup has nothing else")
    parts = member.name.split("/")
    known = member.name in (STORE, AUDIT, MANIFEST)
    file = len(parts) == 2 and parts[0] == "files" and ID.fullmatch(parts[1])
    model = len(parts) >= 3 and parts[0] == "models" and (len(parts) > 3 or parts[2] == "latest")
    if not (known or file or model) or not all(PART.fullmatch(part) for part in parts):
        raise InvalidRequest(
            f"{member.name!r} in the archive has no place in a state folder; a backup has no such path"
        )


def _unpack(archive: tarfile.TarFile, manifest: Manifest, folder: Path, tell: TellBytes) -> None:
    total = sum(member.size for member in manifest.members)
    places = {member.name: member for member in archive.getmembers()}
    for member in manifest.members:
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = archive.extractfile(places[member.name])
        assert content is not None  # a plain file
        digest = hashlib.sha256()
        with open(target, "xb") as file:
            while chunk := content.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
                tell(len(chunk), total)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != member.sha256 or target.stat().st_size != member.size:
            raise InvalidRequest(f"{member.name} is damaged in the archive; take another copy of the backup")


def _check_store(store: Path, manifest: Manifest) -> None:
    """Whether it is sound and of this archive; what ran is given back to its queue, and old tables become like ours."""
    if not store.is_file():
        raise InvalidRequest("the archive has no store; it is no backup of a service")
    there = {member.name: member.size for member in manifest.members}
    with contextlib.closing(sqlite3.connect(store)) as opened, opened:
        if opened.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise InvalidRequest("the store in the archive is damaged; take another copy of the backup")
        kinds = {kind for (kind,) in opened.execute("SELECT DISTINCT type FROM sqlite_master")}
        if odd := kinds - {"table", "index"}:
            raise InvalidRequest(f"the store in the archive has a {min(odd)}; those of Vitrine have none")
    Database(sqlite_url(store)).close()
    with contextlib.closing(sqlite3.connect(store)) as opened, opened:
        for table in ("files", "jobs", "batches"):
            for (row_id,) in opened.execute(f"SELECT id FROM {table}"):
                if not ID.fullmatch(str(row_id)):
                    raise InvalidRequest(
                        f"the store in the archive has {str(row_id)[:80]!r} among its {table}; no id is like that"
                    )
        for file_id, size in opened.execute("SELECT id, bytes FROM files"):
            if there.get(f"files/{file_id}") != size:
                raise InvalidRequest(
                    f"the archive lacks the bytes of {file_id}, which its store has; take another backup"
                )
        opened.execute("UPDATE jobs SET status = 'queued', attempts = attempts - 1 WHERE status = 'running'")
        for table in ("jobs", "batches"):
            opened.execute(f"UPDATE {table} SET worker = NULL, lease_until = 0")
