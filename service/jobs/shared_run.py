"""What a worker on another host needs to go on with a run: its last checkpoint, and how the run was settled, among the
artefacts. Used by `worker.py`."""

import os
import shutil
from pathlib import Path

from service.artefacts import Artefacts, name_of_run
from training.checkpoints import needed_to_continue

CHECKPOINT = "checkpoint"  # of a run's folder, as `finetune` names it


class SharedRun:
    """Of one job, whose folder on this host is `folder`. Without artefacts nothing is shared."""

    def __init__(self, artefacts: Artefacts | None, job_id: str, folder: Path) -> None:
        self._artefacts = artefacts
        self._name = name_of_run(job_id)
        self._folder = folder
        self._parts = [path.name for path in needed_to_continue(folder / CHECKPOINT)]

    def fetch(self) -> None:
        """The run as it was given last takes the place of what this host has of it."""
        aside = self._folder / ".given"
        if self._artefacts is None or not self._artefacts.get_folder(self._name, aside):
            return
        for part in self._parts:
            old = self._folder / part
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
            if (aside / part).exists():
                os.replace(aside / part, old)
        shutil.rmtree(aside)

    def give(self) -> None:
        if self._artefacts is not None:
            self._artefacts.put_folder(self._folder, self._name, self._parts)

    def drop(self) -> None:
        if self._artefacts is not None:
            self._artefacts.delete_folder(self._name)
