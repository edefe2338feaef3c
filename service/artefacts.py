"""What several hosts of one service share beside the database: uploaded files, models, checkpoints of open runs, under
any URL that fsspec opens (`s3://`, `gs://`, `file://` on a network disk, ...). Each host works on copies of its own.

A folder lies there as its files under a new name each time, and a list of them that comes last and in one piece: who
reads finds the whole folder of before or that of now. Used by `files.py`, `model_store.py` and `jobs/`.

A disk that is not mounted looks like a store from which all was deleted, and takes what is written. So a store has a
mark, made by the host that comes to it first, and each host remembers the one it found: where that is missing, nothing
is deleted, nor written.
"""

import contextlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from service.errors import ArtefactsUnavailable

RETRY_SECONDS = 5
MARK = "vitrine-store-"  # begins the names of the marks, at the root of the store
KNOWN = ".store"  # in the folder `shared` of a host: the name of the mark that it knows the store by
LIST_SUFFIX = ".files.json"
RUNS = "runs"  # the folder of what open runs need to go on
MODELS = "models"  # the folder of all models


class Artefacts:
    """Names are relative paths with slashes. Raises ArtefactsUnavailable where the store does not answer, or is not
    there."""

    def __init__(self, url: str, shared: Path | None = None) -> None:
        """In the folder `shared` this host remembers the store, beside the names of the models that it shares. Without
        one, any store will do that another has marked."""
        try:
            self._fs: fsspec.AbstractFileSystem
            self._fs, self._root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"VITRINE_ARTEFACTS is {url!r}: {error}; give a URL that fsspec opens, and install what it needs "
                "(s3:// comes with the extra vitrine[s3])"
            ) from error
        self._shared = shared
        if shared is not None:
            shared.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, url: str, shared: Path | None = None) -> "Artefacts | None":
        """None without a URL: this host's disk is the only one."""
        return cls(url, shared) if url else None

    def put(self, source: Path, name: str) -> None:
        """One file; who reads finds it whole or not at all."""
        self._check()
        target = self._at(name)
        with _told():
            self._fs.makedirs(self._parent(target), exist_ok=True)
            if "file" in self._protocols:  # a network disk shows a file that grows; object stores do not
                partly = f"{target}.{secrets.token_hex(4)}.part"
                self._fs.put_file(str(source), partly)
                self._fs.mv(partly, target)
            else:
                self._fs.put_file(str(source), target)

    def get(self, name: str, target: Path) -> None:
        """Raises FileNotFoundError when it is not there."""
        self._check()
        target.parent.mkdir(parents=True, exist_ok=True)
        partly = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with _told():
                self._fs.get_file(self._at(name), str(partly))
            os.replace(partly, target)
        except FileNotFoundError:
            self._check()  # a disk may have gone just now
            raise
        finally:
            partly.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        try:
            with _told():
                self._fs.rm_file(self._at(name))
        except FileNotFoundError:
            self._check()

    def put_folder(self, source: Path, name: str, parts: Sequence[str] | None = None) -> None:
        """In the place of the folder of this name, if there is one. Of `source` everything, or these files and folders
        of it alone."""
        before = self._list_of(name)
        version = secrets.token_hex(8)
        roots = [source] if parts is None else [source / part for part in parts]
        paths = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
        files = [path.relative_to(source).as_posix() for path in paths if path.is_file()]
        for file in files:
            self.put(source / file, f"{name}/{version}/{file}")
        with _told():
            self._fs.makedirs(self._parent(self._at(name)), exist_ok=True)
            self._write(name, {"version": version, "files": files})
        if before is not None:
            self._drop(name, before)

    def get_folder(self, name: str, target: Path) -> bool:
        """In the place of `target`, whole -> whether there is such a folder."""
        while (found := self._list_of(name)) is not None:
            aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
            try:
                for file in found["files"]:
                    self.get(f"{name}/{found['version']}/{file}", aside / file)
                aside.mkdir(parents=True, exist_ok=True)  # an empty folder
                if target.exists():
                    shutil.rmtree(target)
                aside.rename(target)
                return True
            except FileNotFoundError:  # replaced at this very moment
                if self._list_of(name) == found:
                    raise
            finally:  # whatever went wrong, the store's silence included
                shutil.rmtree(aside, ignore_errors=True)
        return False

    def delete_folder(self, name: str) -> None:
        if (found := self._list_of(name)) is not None:
            self.delete(name + LIST_SUFFIX)
            self._drop(name, found)

    def folders(self, name: str) -> list[str]:
        """The names of the folders in this one, whole ones alone, without its own name."""
        self._check()
        names = self._names_in(self._at(name))
        self._check()  # a disk may have come just now, or gone
        return [name.removesuffix(LIST_SUFFIX) for name in names if name.endswith(LIST_SUFFIX)]

    def shared_since(self) -> float:
        """When this host began to share, in Unix seconds: what it has from before may lie nowhere else."""
        remembered = [] if self._shared is None else self._shared.iterdir()
        return min((path.stat().st_mtime for path in remembered), default=math.inf)

    def _check(self) -> None:
        """Raises ArtefactsUnavailable unless this is the store that this host knows."""
        known = None if self._shared is None else self._shared / KNOWN
        mark = known.read_text(encoding="utf-8") if known is not None and known.is_file() else self._met()
        with _told():
            there = self._fs.exists(self._at(mark))
        if not there:
            raise self._absent(f"it lacks the file {mark}, by which this host knows it")

    def _met(self) -> str:
        """The mark of a store that this host does not know yet. It makes one where nobody has, but not in the place of
        a store from before there were marks, which is there when its models are."""
        shares = self._shared is not None and any(not path.name.startswith(".") for path in self._shared.iterdir())
        names = self._names_in(self._root)
        mark = next((name for name in names if name.startswith(MARK)), None)
        if mark is None:
            if self._shared is None:
                raise self._absent("no host has used it")
            if shares and MODELS not in names:
                raise self._absent("it has no models, and this host shares some")
            mark = self._made_mark()
        if self._shared is not None:
            partly = self._shared / f"{KNOWN}.{secrets.token_hex(4)}.part"
            partly.write_text(mark, encoding="utf-8")
            os.replace(partly, self._shared / KNOWN)
        return mark

    def _made_mark(self) -> str:
        """Several hosts may do so at once: each has its own."""
        bucket = self._root.partition("/")[0]  # none where the root is a path
        with _told():
            there = not bucket or self._fs.exists(bucket)
        if not there:  # fsspec would make one of this name
            raise self._absent(f"there is no bucket {bucket!r}")
        mark = f"{MARK}{secrets.token_hex(8)}"
        with _told():
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(self._at(mark), b"Hosts of Vitrine know their store by this file: keep it.\n")
        return mark

    def _absent(self, why: str) -> ArtefactsUnavailable:
        return ArtefactsUnavailable(
            f"the store of artefacts {self._fs.unstrip_protocol(self._root)} is not there: {why}; mount its disk or "
            "set VITRINE_ARTEFACTS right; to begin a new one from this host, delete bentoml/shared in its state folder",
            retry_after_seconds=RETRY_SECONDS,
        )

    def _names_in(self, folder: str) -> list[str]:
        """None of one that is not there."""
        with _told():
            try:
                return sorted(PurePosixPath(path).name for path in self._fs.ls(folder, detail=False))
            except FileNotFoundError:
                return []

    @property
    def _protocols(self) -> tuple[str, ...]:
        protocol = self._fs.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @staticmethod
    def _parent(path: str) -> str:
        return str(PurePosixPath(path).parent)

    def _list_of(self, name: str) -> dict[str, Any] | None:
        with _told():
            try:
                found: dict[str, Any] = json.loads(self._fs.cat_file(self._at(name + LIST_SUFFIX)))
                return found
            except FileNotFoundError:
                pass
        self._check()
        return None

    def _write(self, name: str, files: dict[str, Any]) -> None:
        target = self._at(name + LIST_SUFFIX)
        partly = f"{target}.part" if "file" in self._protocols else target
        self._fs.pipe_file(partly, json.dumps(files).encode())
        if partly != target:
            self._fs.mv(partly, target)

    def _drop(self, name: str, found: dict[str, Any]) -> None:
        """The files of a version that nobody is sent to any more."""
        with _told(), contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._at(f"{name}/{found['version']}"), recursive=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Every client has errors of its own."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ArtefactsUnavailable(
            f"the store of artefacts did not answer ({type(error).__name__}: {str(error)[:200]}); try again soon",
            retry_after_seconds=RETRY_SECONDS,
        ) from error


def name_of_run(job_id: str) -> str:
    """The folder of one job's run."""
    return f"{RUNS}/{job_id}"
