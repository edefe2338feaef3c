"""Looks into uploads: faults, warnings, the reports that were asked for. Used by `worker.py`, between jobs and beside
one.
"""

import contextlib
import logging
from dataclasses import replace

from model.folders import load_tokenizer
from service.errors import ArtefactsUnavailable, NotFound
from service.files import FileStorage
from service.jobs.file_store import FileStore
from service.model_store import ModelStore
from service.tables import File
from training.config import Recipe
from training.faults import told
from training.oddities import odd_rows
from training.report import data_report, read_source

BYTES_GONE = "the bytes of this file are gone; upload it again"
log = logging.getLogger("vitrine.checks")


class Checks:
    """Small work on files; each piece is in the store when it is done. Of a file that is deleted meanwhile nothing is
    kept."""

    def __init__(self, store: FileStore, files: FileStorage, models: ModelStore, default_model: str) -> None:
        self._store, self._files, self._models = store, files, models
        self._default_model = default_model

    def check_once(self) -> bool:
        """Checks one upload or makes one report that was asked for; False when there was nothing to do."""
        if (file := self._store.unchecked_file()) is not None:
            self.check_file(file)
        elif (wanted := self._store.pending_report()) is not None:
            self.make_report(wanted.file_id, wanted.model)
        else:
            return False
        return True

    def check_file(self, file: File) -> None:
        """Reads an upload and records its faults (those of the file, and those that forbid training on it), its
        warnings, and its report under the default model."""
        try:
            reading = read_source(self._files.path(file.id), file.filename)
            warnings = [str(warning) for warning in odd_rows(reading.examples)]
        except ArtefactsUnavailable:
            raise
        except FileNotFoundError:
            self._store.set_file_checked(file.id, [BYTES_GONE], [], [], 0)
            return
        except Exception as error:  # a file that breaks a reader must not break the worker
            log.exception("check of file %s failed", file.id)
            self._store.set_file_checked(file.id, [f"the check failed: {type(error).__name__}: {error}"], [], [], 0)
            return
        faults, training_faults = told(reading.faults), told(reading.training_faults)
        examples = reading.examples
        self._store.set_file_checked(
            file.id, faults, training_faults, list(reading.labels), len(examples.rows), examples.task, warnings
        )
        with contextlib.suppress(NotFound):  # deleted meanwhile
            self._store.report(file.id, self._default_model)  # asked for; it is next

    def make_report(self, file_id: str, model: str) -> None:
        """Measures a file with a model's tokenizer; what it finds cut under the default model joins the warnings."""
        try:
            filename, path = self._store.file(file_id).filename, self._files.path(file_id)
        except (NotFound, FileNotFoundError):
            self._store.set_report(file_id, model, None, BYTES_GONE)
            return
        try:
            reading = read_source(path, filename)
            card = self._models.find(model)
            base = self._models.find(card.base_model) if card.adapter and card.base_model else card
            recipe = Recipe()
            recipe = replace(recipe, max_length=min(recipe.max_length, base.config.max_positions))
            report = data_report(reading, None, model, load_tokenizer(base.folder), recipe)
        except ArtefactsUnavailable:
            raise
        except Exception as error:
            log.exception("report on file %s failed", file_id)
            self._store.set_report(file_id, model, None, f"{type(error).__name__}: {error}")
            return
        self._store.set_report(file_id, model, report)
        if model == self._default_model:
            warnings = [
                f"line {item['line']}: {item['message']}" if item["line"] else item["message"]
                for item in report["warnings"]
            ]
            self._store.set_file_warnings(file_id, warnings)
