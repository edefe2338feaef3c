"""Rows named in a report: where they stand, what they say."""

from typing import Any

from training.data import Examples
from training.report.copies import flat, name_target

SHOWN_CHARACTERS = 300


def describe_row(examples: Examples, row: int, **more: object) -> dict[str, Any]:
    """Line, text and given answer of one row, with what else there is to say of it."""
    return {
        "line": examples.line_of(row),
        "text": flat(examples.inputs[row])[:SHOWN_CHARACTERS],
        "given": name_target(examples.targets[row])[:SHOWN_CHARACTERS],
        **more,
    }
