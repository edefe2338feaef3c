"""A report written where a command was asked to: the name's ending chooses the form. Used by the `*_cli.py` files."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

Forms = Mapping[str, Callable[[], bytes]]  # ending -> what makes the content


def check_output(output: Path | None, endings: tuple[str, ...]) -> None:
    """Before anything is measured. Raises ValueError for a form or a folder that there is not."""
    if output is None:
        return
    if output.suffix not in endings:
        raise ValueError(f"--output is {output.name!r}; its ending must be one of {', '.join(endings)}")
    if not output.parent.is_dir():
        raise ValueError(f"--output is {str(output)!r}, and there is no folder {str(output.parent)!r}; make it first")


def write_form(output: Path, forms: Forms) -> None:
    """Temporary name, then rename: a reader sees the whole file or none, and a full disk leaves nothing behind."""
    content = forms[output.suffix]()
    temporary = output.with_name(f".{output.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, output)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
