"""What is wrong with a file, or odd about it, by line. Used by everything that reads training data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

MAX_FAULTS = 100  # reported a file; the rest is counted
SHOWN_LINES = 10  # named in one message; the rest is counted


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a file, or one warning. `line` counts from 1; 0 means the file as a whole."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


class DataFaults(ValueError):
    """A file that cannot be trained on, with all its faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("; ".join(told(self.faults)))


@contextmanager
def faults_named(name: str) -> Iterator[None]:
    """Within, faults say of which of several files they are."""
    try:
        yield
    except DataFaults as error:
        raise DataFaults([Fault(0, f"{name}: {fault}") for fault in error.faults]) from None


def told(faults: Sequence[Fault]) -> list[str]:
    """The first faults in words, and how many more there are: a file may have one in each of a million rows."""
    rest = len(faults) - MAX_FAULTS
    return [str(fault) for fault in faults[:MAX_FAULTS]] + ([f"and {rest:,} more"] if rest > 0 else [])


def name_lines(lines: Sequence[int]) -> str:
    """`line 4`, or `lines 4, 9, 13 and 20 more`."""
    if len(lines) == 1:
        return f"line {lines[0]}"
    shown = ", ".join(map(str, lines[:SHOWN_LINES]))
    rest = len(lines) - SHOWN_LINES
    return f"lines {shown}" + (f" and {rest} more" if rest > 0 else "")


def count_of(number: int, noun: str) -> str:
    """`1 row`, `2,400 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
