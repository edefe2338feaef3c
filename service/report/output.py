"""A report written where a command was asked to: the name's ending chooses the form. Used by the `*_cli.py` files."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

Forms = Mapping[str, Callable[[], bytes]]  # ending -> what makes the content


def check_ending(output: Path | None, endings: tuple[str, ...]) -> None:
    """Before anything is measured. Raises ValueError for a form that there is not."""
    if output is not None and output.suffix not in endings:
        raise ValueError(f"--output is {output.name!r}; its ending must be one of {', '.join(endings)}")


def write_form(output: Path, forms: Forms) -> None:
    """Temporary name, then rename: a reader sees the whole file or none."""
    temporary = output.with_name(f".{output.name}.tmp")
    temporary.write_bytes(forms[output.suffix]())
    os.replace(temporary, output)
