"""Labelled text files to rows, every fault reported at once with its line. Called by `finetune.py` and the job worker.

Rows are `{"text", "label"}` or `{"text", "text_pair", "label"}`, as JSONL or CSV with a header.
"""

import csv
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

MAX_FAULTS = 100  # reported a file; the rest is counted
MAX_TEXT_CHARACTERS = 1_000_000  # a text beyond this is a broken file, not a long document


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a file. `line` counts from 1; 0 means the file as a whole."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


class DataFaults(ValueError):
    """A file that cannot be trained on, with all its faults."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        shown = "; ".join(str(fault) for fault in faults[:MAX_FAULTS])
        rest = len(faults) - MAX_FAULTS
        super().__init__(shown + (f"; and {rest} more" if rest > 0 else ""))


@dataclass(frozen=True)
class Examples:
    """Checked rows of one file."""

    rows: Dataset  # columns text, text_pair ("" when absent), label
    sha256: str

    @property
    def labels(self) -> list[str]:
        return list(self.rows["label"])

    @property
    def inputs(self) -> list[str | tuple[str, str]]:
        pairs = zip(self.rows["text"], self.rows["text_pair"], strict=True)
        return [(text, pair) if pair else text for text, pair in pairs]


def load_examples(path: Path) -> Examples:
    """Reads and checks one file. Raises DataFaults naming every fault, with line numbers."""
    raw = path.read_bytes()
    faults: list[Fault] = []
    rows = [row for line, fields in _parse(raw, faults) if (row := _check_row(line, fields, faults)) is not None]
    if not rows and not faults:
        faults.append(Fault(0, 'the file has no rows; write one {"text": ..., "label": ...} object a line'))
    if faults:
        raise DataFaults(faults)
    columns = {name: [row[name] for row in rows] for name in ("text", "text_pair", "label")}
    return Examples(Dataset.from_dict(columns), hashlib.sha256(raw).hexdigest())


def check_training(examples: Examples) -> tuple[str, ...]:
    """The sorted labels of a training file. Raises DataFaults when nothing could be learned from it."""
    counts = Counter(examples.labels)
    if len(counts) < 2:
        only = next(iter(counts))
        raise DataFaults([Fault(0, f"all {counts[only]} rows have the label {only!r}; at least 2 labels are needed")])
    if rare := sorted(label for label, count in counts.items() if count < 2):
        raise DataFaults([Fault(0, f"the labels {rare[:10]} have one row each; give every label at least 2 rows")])
    return tuple(sorted(counts))


def check_validation(examples: Examples, labels: Iterable[str]) -> None:
    """Raises DataFaults when the validation file has labels that training never shows."""
    known = set(labels)
    faults = [
        Fault(line, f"label {label!r} is not in the training file, whose labels are {sorted(known)[:20]}")
        for line, label in enumerate(examples.labels, start=1)
        if label not in known
    ]
    if faults:
        raise DataFaults(faults)


def split_validation(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """A stratified split -> (training, validation): every label stays on both sides."""
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(examples.labels):
        by_label.setdefault(label, []).append(index)
    held_out: set[int] = set()
    generator = random.Random(seed)
    for label in sorted(by_label):
        indices = by_label[label]
        generator.shuffle(indices)
        held_out.update(indices[: max(1, round(len(indices) * share))])
    kept = [index for index in range(len(examples.rows)) if index not in held_out]
    return (
        Examples(examples.rows.select(kept), examples.sha256),
        Examples(examples.rows.select(sorted(held_out)), examples.sha256),
    )


def _parse(raw: bytes, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    if b"\x00" in raw[:65536]:
        faults.append(Fault(0, "the file is binary; upload JSONL or CSV text in UTF-8"))
        return
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        faults.append(Fault(line, f"byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8"))
        return
    first = text.lstrip()[:1]
    yield from _parse_jsonl(text, faults) if first in ("{", "[", "") else _parse_csv(text, faults)


def _parse_jsonl(text: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            faults.append(Fault(number, f"not JSON ({reason}); write one object a line"))
            continue
        if isinstance(fields, dict):
            yield number, fields
        else:
            faults.append(Fault(number, f"a {type(fields).__name__}, not an object with 'text' and 'label'"))


def _parse_csv(text: str, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        while True:
            line = reader.line_num + 1
            fields = next(reader)
            if not fields:
                continue
            if header is None:
                header = [name.strip() for name in fields]
                if not {"text", "label"} <= set(header):
                    faults.append(Fault(1, f"the header is {header[:10]}; a CSV needs the columns 'text' and 'label'"))
                    return
            elif len(fields) != len(header):
                faults.append(
                    Fault(line, f"{len(fields)} fields, the header has {len(header)}; quote texts with commas")
                )
            else:
                yield line, dict(zip(header, fields, strict=True))
    except StopIteration:
        return
    except csv.Error as error:
        faults.append(Fault(reader.line_num, f"broken CSV ({error}); check the quotes"))


def _check_row(line: int, fields: dict[str, Any], faults: list[Fault]) -> dict[str, str] | None:
    text, pair, label = fields.get("text"), fields.get("text_pair", ""), fields.get("label")
    found = len(faults)
    for name, value in (("text", text), ("text_pair", pair)):
        if name == "text" and value is None:
            faults.append(Fault(line, f"no 'text'; the row has {sorted(map(str, fields))[:10]}"))
        elif not isinstance(value, str):
            faults.append(Fault(line, f"'{name}' is a {type(value).__name__}; it must be a string"))
        elif len(value) > MAX_TEXT_CHARACTERS:
            faults.append(Fault(line, f"'{name}' has {len(value)} characters; the limit is {MAX_TEXT_CHARACTERS}"))
    if isinstance(text, str) and not text.strip():
        faults.append(Fault(line, "'text' is empty; remove the row or fill it"))
    if label is None or label == "":
        faults.append(Fault(line, "no 'label'; every row needs one"))
    elif isinstance(label, bool) or not isinstance(label, str | int):
        faults.append(Fault(line, f"'label' is a {type(label).__name__}; use a string or a whole number"))
    if len(faults) > found:
        return None
    return {"text": str(text), "text_pair": str(pair), "label": str(label)}
