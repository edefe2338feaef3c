"""What is odd about checked rows yet can be trained on: said as warnings, never dropped. Used by `finetune.py`, the
report and the job worker."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from model.tokenizer import Encoding
from training.data import Examples
from training.faults import Fault, count_of, name_lines

FEW_ROWS = 5  # of a label, to learn it from
LARGEST_SHARE = 0.9  # of one class, beyond which accuracy says little
SHOWN_GROUPS = 3  # of contradictory rows, in one message


@dataclass(frozen=True)
class Copies:
    """Rows of one file that have the same text, as groups of row numbers."""

    repeated: list[list[int]]  # with the same target
    contradictory: list[list[int]]  # with different targets

    @property
    def num_repeated(self) -> int:
        """Rows beyond the first of each group."""
        return sum(len(group) - 1 for group in self.repeated)


def find_copies(examples: Examples) -> Copies:
    """Groups of rows with exactly the same text (and second text)."""
    by_text: dict[object, list[int]] = {}
    for index, text in enumerate(examples.inputs):
        by_text.setdefault(text, []).append(index)
    targets = examples.targets
    repeated, contradictory = [], []
    for group in (group for group in by_text.values() if len(group) > 1):
        by_target: dict[object, list[int]] = {}
        for index in group:
            by_target.setdefault(targets[index], []).append(index)
        repeated += [same for same in by_target.values() if len(same) > 1]
        if len(by_target) > 1:
            contradictory.append(group)
    return Copies(repeated, contradictory)


def find_leaks(train: Examples, validation: Examples) -> list[int]:
    """Validation rows whose text also stands in a training row."""
    known = set(train.inputs)
    return [index for index, text in enumerate(validation.inputs) if text in known]


def odd_rows(examples: Examples) -> list[Fault]:
    """Warnings about one file: what its reading left out, repeated and contradictory rows, labels alike or rare."""
    copies = copy_warnings(examples, find_copies(examples))
    return [*examples.warnings, *copies, *alike_warnings(examples), *balance_warnings(examples)]


def copy_warnings(examples: Examples, copies: Copies) -> list[Fault]:
    found = []
    if copies.repeated:
        lines = sorted(examples.line_of(index) for group in copies.repeated for index in group[1:])
        what = f"{count_of(len(lines), 'row')} {'repeats' if len(lines) == 1 else 'repeat'} an earlier one"
        found.append(Fault(0, f"{what}, text and label ({name_lines(lines)}); such rows weigh more in training"))
    if copies.contradictory:
        groups = [[examples.line_of(index) for index in group] for group in copies.contradictory]
        shown = "; ".join(name_lines(lines) for lines in groups[:SHOWN_GROUPS])
        rest = f"; and {len(groups) - SHOWN_GROUPS} more" if len(groups) > SHOWN_GROUPS else ""
        what = f"{count_of(len(groups), 'text')} {'stands' if len(groups) == 1 else 'stand'} with different labels"
        found.append(Fault(0, f"{what} ({shown}{rest}); decide which is right, or remove them"))
    return found


def alike_warnings(examples: Examples) -> list[Fault]:
    """Labels that may be one: they differ only in case, in full or half width, or in white space."""
    groups: dict[str, set[str]] = {}
    for label in {label for labels in examples.label_sets for label in labels}:
        groups.setdefault(" ".join(unicodedata.normalize("NFKC", label).casefold().split()), set()).add(label)
    alike = sorted(sorted(group) for group in groups.values() if len(group) > 1)
    if not alike:
        return []
    shown = "; ".join(", ".join(map(repr, group)) for group in alike[:SHOWN_GROUPS])
    rest = f"; and {len(alike) - SHOWN_GROUPS} more" if len(alike) > SHOWN_GROUPS else ""
    noun = "tags" if examples.task == "tagging" else "labels"
    return [Fault(0, f"{noun} that differ only in case, width or white space: {shown}{rest}; are they one?")]


def balance_warnings(examples: Examples) -> list[Fault]:
    """Rare labels, and one class that is nearly all of a file."""
    noun = "tag" if examples.task == "tagging" else "label"
    counts = Counter(label for labels in examples.label_sets for label in labels)
    found = []
    if rare := sorted((label for label, count in counts.items() if count < FEW_ROWS), key=lambda label: -counts[label]):
        shown = ", ".join(f"{label!r} ({counts[label]})" for label in rare[:10])
        rest = f" and {len(rare) - 10} more" if len(rare) > 10 else ""
        where = "words" if examples.task == "tagging" else "rows"
        what = f"{count_of(len(rare), noun)} with fewer than {FEW_ROWS} {where}: {shown}{rest}"
        found.append(Fault(0, f"{what}; they can hardly be learned"))
    if examples.task in ("classification", "tagging") and counts:
        label, count = counts.most_common(1)[0]
        share = count / counts.total()
        if share > LARGEST_SHARE:
            found.append(
                Fault(
                    0, f"{noun} {label!r} is {share:.1%} of the file; judge by macro F1, accuracy will look good anyway"
                )
            )
    return found


def leak_warning(train: Examples, validation: Examples, leaks: Sequence[int]) -> list[Fault]:
    """At most one: which validation rows training has seen."""
    if not leaks:
        return []
    lines = [validation.line_of(index) for index in leaks]
    targets: dict[object, set[object]] = {}
    for text, target in zip(train.inputs, train.targets, strict=True):
        targets.setdefault(text, set()).add(target)
    inputs, wanted = validation.inputs, validation.targets
    same = sum(wanted[index] in targets[inputs[index]] for index in leaks)
    share = len(leaks) / len(validation.rows)
    what = f"{len(leaks):,} of {count_of(len(validation.rows), 'validation row')} ({share:.1%}) also stand in training"
    how = f"{same:,} of them with the same label; the scores will look better than they are"
    return [Fault(0, f"{what} (validation {name_lines(lines)}), {how}")]


def has_one_score(validation: Examples) -> bool:
    """Whether the rows to judge a regression by are all the same, or one."""
    return validation.task == "regression" and len(set(validation.targets)) < 2


def one_score_warning(validation: Examples) -> list[Fault]:
    """At most one: R² and correlation say nothing of such rows."""
    if not has_one_score(validation):
        return []
    rows = count_of(len(validation.rows), "validation row")
    what = (
        f"the score of {rows} is always {validation.targets[0]:g}" if len(validation.rows) > 1 else f"there is {rows}"
    )
    how = "unless another metric is asked for, the weights of the lowest mean absolute error are kept"
    return [Fault(0, f"{what}, of which R² and correlation can't be told; {how}")]


def cut_warning(
    examples: Examples, encodings: Sequence[Encoding], max_length: int, base: str, split: str = "training"
) -> list[Fault]:
    """At most one: how many rows are longer than the model reads, and how much of the text is lost."""
    cut = [index for index, encoding in enumerate(encodings) if encoding.truncated]
    if not cut:
        return []
    total = sum(encoding.full_length for encoding in encodings)
    lost = sum(encodings[index].full_length - len(encodings[index].ids) for index in cut)
    longest = max(encoding.full_length for encoding in encodings)
    rows = f"{len(cut):,} of {count_of(len(encodings), f'{split} row')}"
    what = f"{rows} are longer than {max_length} tokens of {base!r} and are cut"
    where = name_lines([examples.line_of(index) for index in cut])
    lost_share = f"{lost:,} of {total:,} tokens ({lost / total:.1%}) are not read"
    return [Fault(0, f"{what}: {lost_share}, the longest row has {longest:,} ({where})")]
