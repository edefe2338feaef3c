"""What nobody needs any more of a host's folder of files: copies of files that were deleted through another host, and
what killed processes left. Used by `errands.py`, and by `app.py` on a host that has no worker.
"""

import asyncio
import contextlib
import logging
import time

from service.files import FileStorage
from service.jobs.file_store import FileStore

SECONDS_BETWEEN = 300.0
ROW_SECONDS = 3_600.0  # bytes lie in their place before they have a row
WRITE_SECONDS = 86_400.0  # no file is written, fetched or given to all for so long
log = logging.getLogger("vitrine.files")


def remove_leftovers(files: FileStorage, store: FileStore) -> None:
    """Asks for the rows once it has looked into the folder, so that what comes meanwhile is not judged. A file without
    a row goes where it is a copy alone: the only one may be of another database that somebody will go back to."""
    now, written = time.time(), {}
    for path in files.folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was deleted just now
            written[path.name] = path.stat().st_mtime
    old = {name: at for name, at in written.items() if at < now - ROW_SECONDS}
    since = files.shared_since()
    copies = {name for name, at in old.items() if name.startswith("file-") and at >= since}
    halves = {name for name, at in old.items() if name.startswith(".file-") and at < now - WRITE_SECONDS}
    answers = {name: name[1:].partition(".")[0] for name in old if name.startswith(".batch-")}  # see `bulk.py`
    open_batches = store.open_batches()
    ended = {name for name, batch_id in answers.items() if batch_id not in open_batches}
    for name in (copies - store.file_ids()) | halves | ended:
        (files.folder / name).unlink(missing_ok=True)


async def remove_leftovers_for_good(files: FileStorage, store: FileStore) -> None:
    """The same every few minutes until it is cancelled."""
    while True:
        await asyncio.sleep(SECONDS_BETWEEN)
        try:
            await asyncio.to_thread(remove_leftovers, files, store)
        except Exception:  # a busy database
            log.exception("what is left of files could not be removed; the next turn tries again")
