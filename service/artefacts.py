"""What several hosts of one service share beside the database: uploaded files, models, checkpoints of open runs, under
any URL that fsspec opens (`s3://`, `gs://`, `file://` on a network disk, ...). Each host works on copies of its own.

A folder lies there as its files under a new name each time, and a list of them that comes last and in one piece: who
reads finds the whole folder of before or that of now. Used by `files.py`, `registry.py` and `jobs/worker.py`.
"""

import contextlib
import json
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
LIST_SUFFIX = ".files.json"
RUNS = "runs"  # the folder of what open runs need to go on


class Artefacts:
    """Names are relative paths with slashes. Raises ArtefactsUnavailable where the store does not answer."""

    def __init__(self, url: str) -> None:
        try:
            self._fs: fsspec.AbstractFileSystem
            self._fs, self._root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"VITRINE_ARTEFACTS is {url!r}: {error}; give a URL that fsspec opens, and install what it needs "
                "(s3:// comes with the extra vitrine[s3])"
            ) from error

    @classmethod
    def of(cls, url: str) -> "Artefacts | None":
        """None without a URL: this host's disk is the only one."""
        return cls(url) if url else None

    def put(self, source: Path, name: str) -> None:
        """One file; who reads finds it whole or not at all."""
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
        target.parent.mkdir(parents=True, exist_ok=True)
        partly = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        try:
            with _told():
                self._fs.get_file(self._at(name), str(partly))
            os.replace(partly, target)
        finally:
            partly.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        with _told(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

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
        with _told():
            try:
                found = self._fs.ls(self._at(name), detail=False)
            except FileNotFoundError:
                return []
        names = [PurePosixPath(path).name for path in found]
        return sorted(name.removesuffix(LIST_SUFFIX) for name in names if name.endswith(LIST_SUFFIX))

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
            except FileNotFoundError:
                return None
        return found

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
