"""Labelled files to checked rows, every fault reported at once with its line. Called by `finetune.py`, the report and
the job worker.

Rows are read by `tables.py` (JSONL, CSV, Parquet, `datasets`), their task told by `kinds.py`; what is odd but can be
trained on is `oddities.py`'s.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from datasets import Dataset

from training.faults import MAX_FAULTS, DataFaults, Fault, count_of
from training.kinds import LONE_SURROGATE, MAX_TEXT_CHARACTERS, DataTask, check_rows
from training.tables import read_table

__all__ = [
    "LONE_SURROGATE",
    "MAX_FAULTS",
    "MAX_TEXT_CHARACTERS",
    "DataFaults",
    "DataTask",
    "Examples",
    "Fault",
    "check_training",
    "check_validation",
    "load_examples",
    "read_examples",
    "split_validation",
]

COLUMNS: dict[DataTask, tuple[str, ...]] = {
    "classification": ("text", "text_pair", "label"),
    "multi_label": ("text", "text_pair", "labels"),
    "regression": ("text", "text_pair", "score"),
    "tagging": ("tokens", "tags"),
    "language_model": ("text", "text_pair"),
}


@dataclass(frozen=True)
class Examples:
    """Checked rows of one file."""

    rows: Dataset  # the columns of its task, see COLUMNS; text_pair is "" when absent
    sha256: str
    task: DataTask = "classification"
    lines: tuple[int, ...] = ()  # where each row stands in its file; empty: row i is line i + 1
    warnings: tuple[Fault, ...] = ()  # of reading, such as columns that are not used

    @cached_property
    def labels(self) -> list[str]:
        """The class of each row of a classification file."""
        return list(self.rows["label"][:])

    @cached_property
    def label_sets(self) -> list[tuple[str, ...]]:
        """The labels of each row, whatever the task: one class, several, or a tag a word."""
        if self.task == "classification":
            return [(label,) for label in self.rows["label"][:]]
        column = {"multi_label": "labels", "tagging": "tags"}.get(self.task)
        return [tuple(labels) for labels in self.rows[column][:]] if column else [()] * len(self.rows)

    @cached_property
    def inputs(self) -> list[str | tuple[str, str]]:
        """The texts, or pairs of texts; of a tagging file its words joined."""
        if self.task == "tagging":
            return [join_words(words)[0] for words in self.rows["tokens"][:]]
        pairs = zip(self.rows["text"][:], self.rows["text_pair"][:], strict=True)
        return [(text, pair) if pair else text for text, pair in pairs]

    @cached_property
    def targets(self) -> list[object]:
        """What is learned of each row, in a form that can be compared."""
        if self.task == "regression":
            return list(self.rows["score"][:])
        return [tuple(sorted(labels)) if self.task == "multi_label" else labels for labels in self.label_sets]

    def line_of(self, index: int) -> int:
        return self.lines[index] if self.lines else index + 1

    def select(self, indices: Sequence[int]) -> "Examples":
        lines = tuple(self.line_of(index) for index in indices)
        return Examples(self.rows.select(indices), self.sha256, self.task, lines, self.warnings)


def drawn(rows: int, most: int) -> Sequence[int]:
    """Which rows stand for all: at most so many, in their order, drawn at random, the same each time. Every k-th would
    be of few classes where a file has them in turns."""
    return range(rows) if rows <= most else sorted(random.Random(0).sample(range(rows), most))


def join_words(words: Sequence[str]) -> tuple[str, list[int]]:
    """Words as running text, and the character at which each begins: spaces only where neither side is Chinese or
    Japanese, so that the model is trained on text as it will be asked about."""
    parts: list[str] = []
    starts, end = [], 0
    for word in words:
        if parts and not (_is_unspaced(parts[-1][-1]) or _is_unspaced(word[0])):
            parts.append(" ")
            end += 1
        starts.append(end)
        parts.append(word)
        end += len(word)
    return "".join(parts), starts


def _is_unspaced(character: str) -> bool:
    """Whether the script of this character is written without spaces: Han, kana, their punctuation and full width."""
    code = ord(character)
    return 0x2E80 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0xFFEF or code >= 0x20000


def load_examples(path: Path | Dataset, task: DataTask | None = None) -> Examples:
    """Reads and checks one file or data set. Raises DataFaults naming every fault, with line numbers."""
    examples, faults, _ = read_examples(path, task)
    if faults:
        raise DataFaults(faults)
    return examples


def read_examples(source: Path | Dataset, task: DataTask | None = None) -> tuple[Examples, list[Fault], int]:
    """The fit rows of a source, all faults of the others, and the number of rows read."""
    table = read_table(source)
    faults = list(table.faults)
    checked = check_rows(table.rows, task, faults)
    if not table.rows and not faults:
        faults.append(Fault(0, 'the file has no rows; write one {"text": ..., "label": ...} object a line'))
    columns = {name: [row[name] for row in checked.rows] for name in COLUMNS[checked.task]}
    rows = Dataset.from_dict(columns)
    faults.sort(key=lambda fault: fault.line)
    return (
        Examples(rows, table.sha256, checked.task, tuple(checked.lines), tuple(checked.warnings)),
        faults,
        len(table.rows),
    )


def check_training(examples: Examples) -> tuple[str, ...]:
    """The sorted labels of a training file (none for regression). Raises DataFaults when nothing could be learned."""
    if examples.task == "language_model":
        message = (
            "the rows have 'text' alone, and no label to learn; for language modelling run `vitrine pretrain --data`"
        )
        raise DataFaults([Fault(0, message)])
    if examples.task == "regression":
        scores = list(examples.rows["score"][:])
        if len(set(scores)) < 2:
            message = f"all {len(scores)} rows have the score {scores[0]:g}; at least 2 different scores are needed"
            raise DataFaults([Fault(0, message)])
        return ()
    label_sets = examples.label_sets
    counts = Counter(label for labels in label_sets for label in labels)
    if examples.task == "multi_label":
        if len({tuple(sorted(labels)) for labels in label_sets}) < 2:
            message = (
                f"all {len(label_sets)} rows have the labels {list(label_sets[0])}; there is nothing to tell apart"
            )
            raise DataFaults([Fault(0, message)])
        return tuple(sorted(counts))
    if len(counts) < 2:
        only = next(iter(counts))
        what, noun = (
            (f"{counts[only]} words", "tag") if examples.task == "tagging" else (f"{counts[only]} rows", "label")
        )
        raise DataFaults([Fault(0, f"all {what} have the {noun} {only!r}; at least 2 {noun}s are needed")])
    rare = sorted(label for label, count in counts.items() if count < 2)
    if rare and examples.task == "classification":
        raise DataFaults([Fault(0, f"the labels {rare[:10]} have one row each; give every label at least 2 rows")])
    return tuple(sorted(counts))


def check_validation(examples: Examples, labels: Iterable[str]) -> None:
    """Raises DataFaults when the validation file has labels that training never shows."""
    known = set(labels)
    noun = "tag" if examples.task == "tagging" else "label"
    faults = [
        Fault(
            examples.line_of(index),
            f"{noun} {label!r} is not in the training file, whose {noun}s are {sorted(known)[:20]}",
        )
        for index, row in enumerate(examples.label_sets)
        for label in sorted(set(row) - known)
    ]
    if faults:
        raise DataFaults(faults)


def split_validation(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """A stratified split -> (training, validation): every class stays on both sides, other tasks split at random.

    A row held out whose text also stands in a training row goes back, so that the split itself leaks nothing; only
    a file of nothing but repeated texts keeps them. Raises DataFaults for a file too small to be split.
    """
    generator = random.Random(seed)
    held_out: set[int] = set()
    for indices in _strata(examples):
        generator.shuffle(indices)
        held_out.update(indices[: min(len(indices) - 1, max(1, round(len(indices) * share)))])
    if not held_out:
        message = f"the file has {count_of(len(examples.rows), 'row')}, and a part of them is held out to be judged by"
        raise DataFaults([Fault(0, f"{message}; give at least 2, or validation rows of their own")])
    texts = examples.inputs
    trained = {text for index, text in enumerate(texts) if index not in held_out}
    held_out = {index for index in held_out if texts[index] not in trained} or held_out
    kept = [index for index in range(len(texts)) if index not in held_out]
    return examples.select(kept), examples.select(sorted(held_out))


def _strata(examples: Examples) -> list[list[int]]:
    """Row numbers of each class, by its name; of another task all rows together."""
    if examples.task != "classification":
        return [list(range(len(examples.rows)))]
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(examples.labels):
        by_label.setdefault(label, []).append(index)
    return [by_label[label] for label in sorted(by_label)]
