"""Reading the files of a model folder; a broken one is a ValueError that names it. Used by `folders.py`,
`weights.py` and `huggingface/`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open


@contextmanager
def open_tensors(path: Path, framework: str = "pt") -> Iterator[Any]:
    """A safetensors file: `keys()` and `get_tensor(name)`. A download cut off, or a pointer to a file kept elsewhere,
    is none."""
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path.name} is no whole safetensors file ({error}); copy or fetch it again") from None


def names_in(path: Path) -> list[str]:
    """Of the tensors of a safetensors file; reads none of them, and loads no torch."""
    with open_tensors(path, framework="np") as file:
        return list(file.keys())


def read_json(path: Path) -> dict[str, Any]:
    """An object."""
    fields = read_json_value(path)
    if not isinstance(fields, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return fields


def read_json_value(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path.name} is missing in {path.parent.name}; is this a model folder?")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of its bytes, too
        raise ValueError(f"{path.name} is not JSON ({error}); fetch the folder again") from None
