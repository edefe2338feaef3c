"""What grows with the number of tokens, kept off the event loop: a large answer is made and written in a thread, a
piece at a time, so that Python's lock is given up in between. Used by `routes/inference.py` and `direct.py`.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json

LARGE = 2_048  # tokens, or numbers of an answer, above which a thread is worth its start: some milliseconds
PIECE = 1_024  # entries of a list that are written in one go
Result = TypeVar("Result")


async def beside(size: int, make: Callable[[], Result]) -> Result:
    """What `make` returns, in a thread where it is large."""
    return make() if size <= LARGE else await asyncio.to_thread(make)


async def json_of(answer: BaseModel) -> bytes:
    """The same bytes as `model_dump_json`, which would keep Python's lock to the end."""
    size = _entries(answer)
    if size <= PIECE:
        return answer.model_dump_json(by_alias=True).encode()
    return await beside(size, lambda: b"".join(_written(answer)))


def _entries(model: BaseModel) -> int:
    """Of all its lists."""
    count = 0
    for _, value in model:
        if isinstance(value, list):
            count += len(value)
            if value and isinstance(value[0], BaseModel):
                count += sum(map(_entries, value))
    return count


def _written(value: Any) -> Iterator[bytes]:
    if isinstance(value, BaseModel) and _entries(value) > PIECE:
        yield b"{"
        for number, (name, field) in enumerate(value):
            yield (b"," if number else b"") + to_json(name) + b":"
            yield from _written(field)
        yield b"}"
    elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
        yield b"["
        for number, item in enumerate(value):
            yield b"," if number else b""
            yield from _written(item)
        yield b"]"
    elif isinstance(value, list) and len(value) > PIECE:
        parts = (value[start : start + PIECE] for start in range(0, len(value), PIECE))
        yield b"[" + b",".join(to_json(part, inf_nan_mode="null")[1:-1] for part in parts) + b"]"
    else:
        yield to_json(value, inf_nan_mode="null")
