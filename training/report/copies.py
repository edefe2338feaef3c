"""Which rows of a file are the same, contradict each other or nearly so, and which training rows a split leaks."""

from collections.abc import Sequence
from typing import Any

from training.data import Examples
from training.oddities import find_copies, find_leaks
from training.report.near import SIMILARITY, near_groups

SHOWN_GROUPS = 5  # of each kind
SHOWN_LINES = 20
SHOWN_CHARACTERS = 160
NEAR_ROWS = 200_000  # compared; more would take minutes


def describe_copies(examples: Examples) -> dict[str, Any]:
    """Repeated, contradictory and nearly repeated rows of one file."""
    copies = find_copies(examples)
    texts = [flat(text) for text in examples.inputs[:NEAR_ROWS]]
    first_with: dict[str, int] = {}
    for index, text in enumerate(texts):
        first_with.setdefault(text, index)
    distinct = list(first_with.values())
    near = [[distinct[place] for place in group] for group in near_groups(list(first_with))]
    return {
        "exact": {"rows": copies.num_repeated, "groups": _groups(examples, copies.repeated)},
        "contradictory": {
            "rows": sum(map(len, copies.contradictory)),
            "groups": _groups(examples, copies.contradictory),
        },
        "near": {
            "rows": sum(len(group) - 1 for group in near),
            "groups": _groups(examples, near),
            "similarity": SIMILARITY,
            "rows_compared": len(texts),
        },
    }


def describe_leaks(train: Examples, validation: Examples) -> dict[str, Any]:
    """Validation rows whose text training has seen, as it is or nearly so."""
    leaks = find_leaks(train, validation)
    exact = set(leaks)
    ours, theirs = ([flat(text) for text in part.inputs[:NEAR_ROWS]] for part in (train, validation))
    near = {
        index - len(ours)
        for group in near_groups([*ours, *theirs])
        if group[0] < len(ours)
        for index in group
        if index >= len(ours)
    } - exact
    return {
        "exact": len(leaks),
        "near": len(near),
        "validation_rows": len(validation.rows),
        "lines": [validation.line_of(index) for index in leaks[:SHOWN_LINES]],
        "near_lines": [validation.line_of(index) for index in sorted(near)[:SHOWN_LINES]],
    }


def flat(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else "\t".join(text)


def _groups(examples: Examples, groups: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """The largest groups: their lines, and each member's beginning and label."""
    inputs, targets = examples.inputs, examples.targets
    return [
        {
            "size": len(group),
            "lines": [examples.line_of(index) for index in group[:SHOWN_LINES]],
            "texts": [flat(inputs[index])[:SHOWN_CHARACTERS] for index in group[:3]],
            "labels": [name_target(targets[index]) for index in group[:3]],
        }
        for group in sorted(groups, key=len, reverse=True)[:SHOWN_GROUPS]
    ]


def name_target(target: object) -> str:
    """What is learned of a row, for a reader."""
    if isinstance(target, tuple):
        return ", ".join(map(str, target)) or "none"
    return f"{target:g}" if isinstance(target, float) else str(target)
