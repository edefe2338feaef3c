"""The bytes of uploaded files: streamed to disk, flushed, renamed. Client file names never reach the file system."""

import os
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20


class FileStorage:
    """One flat folder; a file is named by its id alone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def path(self, file_id: str) -> Path:
        return self._folder / file_id

    def write(self, file_id: str, source: BinaryIO) -> int:
        """Copies a stream to disk -> its size in bytes. Either the whole file is there afterwards, or none of it."""
        temporary = self._folder / f".{file_id}.tmp"
        try:
            with open(temporary, "wb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            os.replace(temporary, self.path(file_id))
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def delete(self, file_id: str) -> None:
        self.path(file_id).unlink(missing_ok=True)
