"""The bytes of uploaded files: streamed to disk, flushed, renamed, and put where all hosts find them. Client file names
never reach the file system.
"""

import logging
import math
import os
from pathlib import Path
from typing import BinaryIO

from service.artefacts import Artefacts
from service.errors import ArtefactsUnavailable
from service.settings import Settings

CHUNK_BYTES = 1 << 20
log = logging.getLogger("vitrine.files")


class FileStorage:
    """One flat folder of this host; a file is named by its id alone. With `artefacts` it holds copies."""

    def __init__(self, folder: Path, artefacts: Artefacts | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._artefacts = artefacts

    @classmethod
    def of(cls, settings: Settings) -> "FileStorage":
        return cls(settings.files, Artefacts.of(settings.artefacts, settings.shared))

    def path(self, file_id: str) -> Path:
        """Where the file lies on this host, fetched first when another host has it. Raises FileNotFoundError."""
        path = self.folder / file_id
        if self._artefacts is not None and not path.is_file():
            self._artefacts.get(_name(file_id), path)
        if not path.is_file():
            raise FileNotFoundError(file_id)
        return path

    def shared_since(self) -> float:
        """In Unix seconds: what was written here later is a copy of what all hosts have. Never, on a host alone."""
        return math.inf if self._artefacts is None else self._artefacts.shared_since()

    def write(self, file_id: str, source: BinaryIO) -> int:
        """Copies a stream to disk -> its size in bytes. Either the whole file is there afterwards, or none of it."""
        temporary = self.folder / f".{file_id}.tmp"
        try:
            with open(temporary, "wb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            if self._artefacts is not None:
                self._artefacts.put(temporary, _name(file_id))
                os.utime(temporary)  # a copy from now on: see `shared_since`
            os.replace(temporary, self.folder / file_id)
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def delete(self, file_id: str) -> None:
        """On this host and for all, as far as they can be reached: the row is gone, so nobody is sent to what stays."""
        (self.folder / file_id).unlink(missing_ok=True)
        if self._artefacts is not None:
            try:
                self._artefacts.delete(_name(file_id))
            except ArtefactsUnavailable:
                log.warning("the bytes of %s stay among the artefacts", file_id, exc_info=True)


def _name(file_id: str) -> str:
    return f"files/{file_id}"
