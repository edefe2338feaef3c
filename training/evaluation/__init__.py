"""How good a model is, on what, and which rows to look at: a report as plain JSON, and a table of predictions.

Made at the end of `finetune.py` and by `vitrine evaluate`; drawn by `service/report/`. The scores while a model trains
are `training/evaluate.py`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from model.heads import TextModel
from model.tokenizer import Tokenizer
from training.data import DataFaults, DataTask, Examples, drawn
from training.dynamics import Cartography, Dynamics, ambiguous_rows, cartography, hardest_rows
from training.evaluation.classes import Classes
from training.evaluation.label_sets import LabelSets
from training.evaluation.mislabelled import mislabelled
from training.evaluation.ratio import Ratio, interval, interval_of_difference
from training.evaluation.real_numbers import RealNumbers
from training.evaluation.rows import SHOWN_CHARACTERS, describe_row
from training.evaluation.slices import slices
from training.evaluation.tags import Tags
from training.evaluation.task import Prediction, Task
from training.faults import Fault
from training.report.copies import flat

SHORTEST_LENGTH = 4  # tokens, special ones included, as in `config.Recipe`
SHOWN_MISTAKES = 50
SHOWN_ROWS = 30  # of the hardest and of the most ambiguous
SHOWN_POINTS = 2_000  # on the map of training rows, drawn at random
TASKS: dict[DataTask, Any] = {  # a class each, of the same arguments
    "classification": Classes,
    "multi_label": LabelSets,
    "regression": RealNumbers,
    "tagging": Tags,
}
Curve = Sequence[Mapping[str, float]]  # a row a step: step, and train_loss, or valid_loss with the other figures


@dataclass(frozen=True)
class Evidence:
    """What there is beside model and held-out rows; each part adds sections to the report."""

    training: Examples | None = None  # for baselines and likely mistakes in the labels
    dynamics: Dynamics | None = None  # what training saw of those rows
    history: Curve = ()
    temperature: float = 1.0  # that was fitted on these held-out rows, and by which the model's logits are divided


@dataclass(frozen=True)
class Names:
    """What a reader calls the two."""

    model: str = "the model"
    data: str = "the held-out rows"


def evaluation_report(
    model: TextModel,
    tokenizer: Tokenizer,
    held_out: Examples,
    evidence: Evidence | None = None,
    max_length: int | None = None,
    names: Names | None = None,
) -> dict[str, Any]:
    """The whole report. Raises ValueError for rows of another task, DataFaults for labels the model does not know."""
    task = open_task(model, tokenizer, held_out, max_length)
    return report_on(task, task.predict(model), held_out, evidence or Evidence(), names or Names())


def open_task(model: TextModel, tokenizer: Tokenizer, held_out: Examples, max_length: int | None = None) -> Task[Any]:
    """The held-out rows, read as this model reads them; at most `max_length` tokens of each."""
    config = model.config
    if config.task not in TASKS:
        raise ValueError(f"the model is for {config.task!r}; evaluation needs a model for {', '.join(TASKS)}")
    if held_out.task != config.task:
        raise ValueError(
            f"the model is for {config.task!r}, the rows are for {held_out.task!r}; choose rows of its task"
        )
    if max_length is not None and max_length < SHORTEST_LENGTH:
        raise ValueError(f"max_length is {max_length}; at least {SHORTEST_LENGTH} tokens are needed")
    check_labels(held_out, config.labels)
    longest = min(max_length or config.max_positions, config.max_positions)
    task: Task[Any] = TASKS[held_out.task](held_out, tokenizer, config.labels, longest)
    return task


def check_labels(examples: Examples, labels: Sequence[str]) -> None:
    """Raises DataFaults naming every row with a label that the model can't give."""
    known = set(labels)
    faults = [
        Fault(examples.line_of(row), f"label {label!r} is none of the model's, which are {sorted(known)[:20]}")
        for row, own in enumerate(examples.label_sets)
        for label in sorted(set(own) - known)
    ]
    if faults:
        raise DataFaults(faults)


def report_on(
    task: Task[Any], prediction: Prediction[Any], held_out: Examples, evidence: Evidence, names: Names
) -> dict[str, Any]:
    """The report of predictions that are already made."""
    training, ours = evidence.training, task.ratio(prediction.answers)
    described = task.describe(prediction)
    report: dict[str, Any] = {
        "object": "evaluation_report",
        "model": names.model,
        "data": names.data,
        "task": held_out.task,
        "rows": len(held_out.rows),
        "metric": asdict(task.metric),
        "headline": {"value": ours.value, "interval": interval(ours)},
        "figures": {**task.figures(prediction.answers), **described.pop("figures")},
        **(_against_baselines(task, ours, training) if training is not None else {"baselines": []}),
        **described,
        **_calibration(task, prediction, evidence.temperature),
        "slices": slices(ours, task.encodings, list(map(flat, held_out.inputs)), task.groups()),
        "mistakes": _mistakes(task, prediction, held_out),
        "history": [dict(row) for row in evidence.history],
    }
    rows = cartography(evidence.dynamics) if evidence.dynamics is not None else None
    if training is not None and rows is not None:
        report["dynamics"] = _dynamics(training, rows)
    if training is not None:
        report["mislabelled"] = mislabelled(training, rows)
    return report


def _calibration(task: Task[Any], prediction: Prediction[Any], temperature: float) -> dict[str, Any]:
    """Of the probabilities as they are served, and of what they were before a temperature divided the logits."""
    found = task.calibration(prediction, 1.0)
    if found is None:
        return {}
    if temperature > 1.0:
        found |= {"temperature": temperature, "before": task.calibration(prediction, temperature)}
    return {"calibration": found}


def _against_baselines(task: Task[Any], ours: Ratio, training: Examples) -> dict[str, Any]:
    """What simple models reach, and how far the best of them is behind. One that can't be fitted is named with why."""
    shown, ratios = [], {}
    failed = None
    try:
        for baseline in task.baselines(training):
            ratios[baseline.name] = ratio = task.ratio(baseline.answers)
            headline = {"value": ratio.value, "interval": interval(ratio)}
            figures = task.figures(baseline.answers)
            shown.append({"name": baseline.name, "what": baseline.what, "headline": headline, "figures": figures})
    except ValueError as error:  # scikit-learn's, for rows without anything to learn from
        failed = str(error).splitlines()[0]
    sign = 1.0 if task.metric.higher_is_better else -1.0
    judged = {name: ratio.value for name, ratio in ratios.items() if ratio.value is not None}
    best = max(judged, key=lambda name: sign * judged[name], default=None)
    report: dict[str, Any] = {"baselines": shown, "baselines_failed": failed, "training_rows": len(training.rows)}
    if best is not None and ours.value is not None:
        difference = {"value": ours.value - judged[best], "interval": interval_of_difference(ours, ratios[best])}
        report["versus"] = {"baseline": best, **difference}
    return report


def _mistakes(task: Task[Any], prediction: Prediction[Any], held_out: Examples) -> dict[str, Any]:
    found = task.mistakes(prediction)
    worst = [
        describe_row(
            held_out,
            mistake.row,
            true=task.show(task.truth[mistake.row])[:SHOWN_CHARACTERS],
            predicted=task.show(prediction.answers[mistake.row])[:SHOWN_CHARACTERS],
            size=mistake.size,
        )
        for mistake in found[:SHOWN_MISTAKES]
    ]
    return {"rows": len(found), "worst": worst}


def _dynamics(training: Examples, rows: Cartography) -> dict[str, Any]:
    seen = np.flatnonzero(~np.isnan(rows.confidence))
    shown = [seen[place] for place in drawn(len(seen), SHOWN_POINTS)]

    def described(chosen: Sequence[int]) -> list[dict[str, Any]]:
        return [
            describe_row(
                training, row, confidence=float(rows.confidence[row]), variability=float(rows.variability[row])
            )
            for row in chosen
        ]

    return {
        "rows": len(seen),
        "always_right": int((rows.correctness[seen] == 1).sum()),
        "never_right": int((rows.correctness[seen] == 0).sum()),
        "points": [
            [round(float(own[row]), 4) for own in (rows.variability, rows.confidence, rows.correctness)]
            for row in shown
        ],
        "hardest": described(hardest_rows(rows, SHOWN_ROWS)),
        "ambiguous": described(ambiguous_rows(rows, SHOWN_ROWS)),
    }
