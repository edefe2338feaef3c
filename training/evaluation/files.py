"""An evaluation on disk: the report as JSON, and a row for each held-out row as CSV. Called at the end of `finetune.py`
and by `vitrine evaluate`."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model.heads import TextModel
from model.tokenizer import Tokenizer
from training.data import Examples
from training.dynamics import Dynamics
from training.evaluation import Curve, Evidence, Names, open_task, report_on
from training.evaluation.task import Prediction, Task

REPORT_FILE = "evaluation.json"
PREDICTIONS_FILE = "predictions.csv"


class Splits(Protocol):
    """Training and held-out rows of one run, as `finetune.Data` has them."""

    @property
    def train(self) -> Examples: ...

    @property
    def validation(self) -> Examples: ...


@dataclass(frozen=True)
class Judged:
    """What a model says of the held-out rows."""

    task: Task[Any]
    prediction: Prediction[Any]


def judge(model: TextModel, tokenizer: Tokenizer, held_out: Examples, max_length: int | None = None) -> Judged:
    """The part of an evaluation that needs the model."""
    task = open_task(model, tokenizer, held_out, max_length)
    return Judged(task, task.predict(model))


def write_evaluation(
    judged: Judged, data: Splits, dynamics: Dynamics | None, history: Curve, output: Path, temperature: float = 1.0
) -> None:
    """Leaves `evaluation.json` and `predictions.csv` in `output`, each whole or not at all. `temperature` is what the
    judged model's logits were divided by."""
    task, prediction = judged.task, judged.prediction
    names = Names("the tuned model", "the held-out rows")
    evidence = Evidence(data.train, dynamics, history, temperature)
    report = report_on(task, prediction, data.validation, evidence, names)
    write_file(output / PREDICTIONS_FILE, predictions_csv(task, prediction, data.validation).encode())
    write_file(output / REPORT_FILE, json_bytes(report))


def predictions_csv(task: Task[Any], prediction: Prediction[Any], held_out: Examples) -> str:
    """Line, text, true and predicted answer, and probabilities of every held-out row."""
    rows = list(_rows(task, prediction, held_out))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def _rows(task: Task[Any], prediction: Prediction[Any], held_out: Examples) -> Iterator[dict[str, str | float]]:
    paired = any(isinstance(text, tuple) for text in held_out.inputs)
    for row, text in enumerate(held_out.inputs):
        first, second = (text, "") if isinstance(text, str) else text
        cells: dict[str, str | float] = {"line": held_out.line_of(row), "text": first}
        cells |= {"text_pair": second} if paired else {}
        yield cells | task.columns(prediction, row)


def json_bytes(report: dict[str, Any]) -> bytes:
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False).encode()


def write_file(path: Path, content: bytes) -> None:
    """Temporary name, flush to disk, rename: a reader sees the whole file or none."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
