"""Which unit of one text is which of another, edited one: for what compares the two. Called by the compare routes."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Protocol


class Placed(Protocol):
    """A unit, as `units.py` has it or a schema of it."""

    @property
    def text(self) -> str: ...

    @property
    def segment(self) -> int: ...

    @property
    def special(self) -> bool: ...


def matched(left: Sequence[Placed], right: Sequence[Placed]) -> list[tuple[int, int]]:
    """Places of units that both have, in order and none crossing another: equal in text, and in which text of a pair
    they are of (Ratcliff and Obershelp 1988, as difflib has it). Readings of one text by one tokenizer match whole."""
    ours, theirs = ([(unit.segment, unit.special, unit.text) for unit in units] for units in (left, right))
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    return [(block.a + step, block.b + step) for block in blocks for step in range(block.size)]
