"""What is in a training file, as plain JSON: labels, lengths, vocabulary, copies, leaks, samples, faults and warnings.

Computed by the job worker when it checks an upload and by `vitrine data report`; drawn by `service/report/`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from model.tokenizer import Encoding, Tokenizer
from training.config import Recipe
from training.data import (
    DataFaults,
    DataTask,
    Examples,
    check_training,
    check_validation,
    drawn,
    read_examples,
    split_validation,
)
from training.faults import MAX_FAULTS, Fault
from training.oddities import cut_warning, find_leaks, leak_warning, odd_rows
from training.report.copies import describe_copies, describe_leaks
from training.report.samples import choose_samples, describe_sample
from training.report.texts import describe_batches, describe_lengths, describe_vocabulary

MEASURED_ROWS = 50_000  # tokenized for the figures, drawn at random; the labels and copies are of all rows
SHOWN_LABELS = 200
SCORE_BINS = 30


@dataclass(frozen=True)
class Reading:
    """One file as it was read: the fit rows, the faults of the others, and the rows there were."""

    name: str
    examples: Examples
    faults: tuple[Fault, ...]  # of reading
    training_faults: tuple[Fault, ...]  # why nothing could be learned from it
    rows_read: int

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({label for labels in self.examples.label_sets for label in labels}))


def read_source(source: Path | Dataset, name: str, task: DataTask | None = None) -> Reading:
    """Reads and checks a source; nothing is raised for what is wrong in it."""
    examples, faults, rows_read = read_examples(source, task)
    training_faults: list[Fault] = []
    if len(examples.rows):
        try:
            check_training(examples)
        except DataFaults as error:
            training_faults = error.faults
    return Reading(name, examples, tuple(faults), tuple(training_faults), rows_read)


def data_report(
    train: Reading, validation: Reading | None, base: str, tokenizer: Tokenizer, recipe: Recipe
) -> dict[str, Any]:
    """The whole report. Without a validation file the part that training would hold out is told apart."""
    examples = train.examples
    faults = [*train.faults, *train.training_faults]
    warnings = odd_rows(examples)
    parts = {"training": examples}
    if validation is not None:
        parts["validation"] = validation.examples
        faults += [Fault(0, f"validation file: {fault}") for fault in _validation_faults(train, validation)]
        warnings += [Fault(0, f"validation file: {fault}") for fault in validation.examples.warnings]
    elif not train.training_faults and len(examples.rows) > 1:
        parts["training"], parts["validation"] = split_validation(examples, recipe.validation_share, recipe.seed)
    report: dict[str, Any] = {
        "object": "data_report",
        "name": train.name,
        "validation_name": validation.name if validation else None,
        "task": examples.task,
        "model": base,
        "max_length": recipe.max_length,
        "rows": {"read": train.rows_read, "kept": len(examples.rows), "faulty": train.rows_read - len(examples.rows)},
        "held_out": validation is None and "validation" in parts,
    }
    measured = _measure(parts, tokenizer, recipe.max_length)
    if len(examples.rows):
        encodings = [encoding for part in measured.values() for encoding in part.encodings]
        texts = [text for part in measured.values() for text in part.examples.inputs]
        report["splits"] = [_describe_split(name, parts[name], part, recipe) for name, part in measured.items()]
        report["labels"] = _label_table(parts)
        report["scores"] = _score_histogram(parts) if examples.task == "regression" else None
        report["tokens"] = describe_lengths(encodings, recipe.max_length)
        report["vocabulary"] = describe_vocabulary(texts, encodings, tokenizer)
        report["duplicates"] = describe_copies(examples)
        has_both = len(parts) == 2 and len(parts["validation"].rows) > 0
        report["leakage"] = describe_leaks(parts["training"], parts["validation"]) if has_both else None
        report["batches"] = describe_batches(measured["training"].encodings, recipe)
        report["samples"] = _samples(measured["training"], tokenizer)
        if has_both:
            leaks = find_leaks(parts["training"], parts["validation"])
            warnings += leak_warning(parts["training"], parts["validation"], leaks)
        for name, part in measured.items():
            warnings += cut_warning(part.examples, part.encodings, recipe.max_length, base, name)
    report["flow"] = _flow(report, len(measured["training"].encodings) if len(examples.rows) else 0)
    report["num_faults"], report["num_warnings"] = len(faults), len(warnings)
    report["faults"] = [{"line": fault.line, "message": fault.message} for fault in faults[:MAX_FAULTS]]
    report["warnings"] = [{"line": fault.line, "message": fault.message} for fault in warnings[:MAX_FAULTS]]
    return report


def _validation_faults(train: Reading, validation: Reading) -> list[Fault]:
    faults = list(validation.faults)
    if validation.examples.task != train.examples.task:
        message = f"its rows are for {validation.examples.task!r}, the training rows for {train.examples.task!r}"
        return [*faults, Fault(0, message)]
    try:
        check_validation(validation.examples, train.labels)
    except DataFaults as error:
        faults += error.faults
    return faults


@dataclass(frozen=True)
class Measured:
    """The rows of a split that were tokenized."""

    examples: Examples
    encodings: Sequence[Encoding]


def _measure(parts: dict[str, Examples], tokenizer: Tokenizer, max_length: int) -> dict[str, Measured]:
    measured = {}
    for name, part in parts.items():
        places = drawn(len(part.rows), MEASURED_ROWS)
        some = part if len(places) == len(part.rows) else part.select(places)
        if len(some.rows):
            measured[name] = Measured(some, tokenizer.encode(some.inputs, max_length))
    return measured


def _describe_split(name: str, whole: Examples, part: Measured, recipe: Recipe) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "rows": len(whole.rows), "rows_measured": len(part.examples.rows)}
    lengths = describe_lengths(part.encodings, recipe.max_length)
    fields["tokens"] = {
        name: lengths[name] for name in ("total", "mean", "median", "longest", "rows_cut", "tokens_cut")
    }
    if whole.task == "regression":
        scores = np.array(whole.rows["score"][:])
        fields["scores"] = {
            "mean": float(scores.mean()),
            "deviation": float(scores.std()),
            "smallest": float(scores.min()),
            "largest": float(scores.max()),
        }
    return fields


def _label_table(parts: dict[str, Examples]) -> list[dict[str, Any]]:
    """Rows (words, for tags) of each label in each split, the commonest first."""
    counts = {name: Counter(label for labels in part.label_sets for label in labels) for name, part in parts.items()}
    total = sum(counts.values(), Counter())
    return [
        {"label": label, "count": count, **{name: counter[label] for name, counter in counts.items()}}
        for label, count in total.most_common(SHOWN_LABELS)
    ]


def _score_histogram(parts: dict[str, Examples]) -> dict[str, Any]:
    scores = np.concatenate([np.array(part.rows["score"][:]) for part in parts.values()])
    counts, edges = np.histogram(scores, bins=min(SCORE_BINS, max(1, len(set(scores.tolist())))))
    return {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}


def _samples(part: Measured, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    chosen = choose_samples(part.encodings, tokenizer.unknown_id)
    return [describe_sample(why, row, part.examples, part.encodings[row], tokenizer) for why, row in chosen]


def _flow(report: dict[str, Any], measured_rows: int) -> list[dict[str, Any]]:
    """From rows to batches, each stage with what is lost on the way."""
    rows = report["rows"]
    flow = [
        {"stage": "rows read", "count": rows["read"], "lost": 0, "why": ""},
        {"stage": "rows fit", "count": rows["kept"], "lost": rows["faulty"], "why": "faulty"},
    ]
    if not measured_rows:
        return flow
    split = report["splits"][0]
    held_out = sum(part["rows"] for part in report["splits"][1:]) if report["held_out"] else 0
    tokens, batches = split["tokens"], report["batches"]
    flow.append({"stage": "training rows", "count": split["rows"], "lost": held_out, "why": "held out"})
    flow.append(
        {"stage": "tokens", "count": tokens["total"] - tokens["tokens_cut"], "lost": tokens["tokens_cut"], "why": "cut"}
    )
    share = f"{batches['padding_share']:.1%} padding"
    flow.append({"stage": "batches", "count": batches["per_epoch"], "lost": 0, "why": share})
    return flow
