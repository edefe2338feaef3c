"""What a job leaves to be fetched: OpenAI's table of metrics, and the evaluation as page, JSON and predictions.

Made by the worker when a run has ended. Names and bytes are a pure function of the job and its run, so that a worker
that takes over makes the same files again.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.report.evaluation.page import evaluation_page
from service.tables import File

PURPOSE = "fine-tune-results"
OPENAI_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


@dataclass(frozen=True)
class Result:
    """One file, to be stored under its id."""

    id: str
    filename: str
    content: bytes

    def row(self, created_at: float, owner: str | None) -> File:
        """What `/v1/files` tells of it."""
        return File(
            id=self.id, created_at=created_at, filename=self.filename, bytes=len(self.content), purpose=PURPOSE,
            status="processed", faults=[], training_faults=[], labels=[], num_rows=0, warnings=[], owner=owner,
        )  # fmt: skip


def results_of(job_id: str, evaluation: dict[str, Any], predictions: bytes) -> list[Result]:
    """The table of metrics comes first: it is what clients of OpenAI take `result_files[0]` for."""
    contents = {
        "step_metrics.csv": metrics_csv(evaluation["history"]).encode(),
        "evaluation.html": evaluation_page(evaluation).html.encode(),
        "evaluation.json": json.dumps(evaluation, indent=1, ensure_ascii=False).encode(),
        "predictions.csv": predictions,
    }
    return [Result(_id_of(job_id, name), name, content) for name, content in contents.items()]


def _id_of(job_id: str, name: str) -> str:
    return f"file-{hashlib.sha256(f'{job_id}/{name}'.encode()).hexdigest()[:24]}"


def metrics_csv(history: Sequence[Mapping[str, float]]) -> str:
    """A line a step: OpenAI's columns (the answer is one label, so its token accuracy is the accuracy), then ours."""
    by_step: dict[float, dict[str, float]] = {}
    for row in history:
        by_step.setdefault(row["step"], {}).update(row)
    for row in by_step.values():
        if "valid_accuracy" in row:
            row["valid_mean_token_accuracy"] = row["valid_accuracy"]
    own = sorted({name for row in by_step.values() for name in row} - set(OPENAI_COLUMNS))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [*OPENAI_COLUMNS, *own])
    writer.writeheader()
    writer.writerows(by_step[step] for step in sorted(by_step))
    return table.getvalue()
