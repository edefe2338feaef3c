"""Functions whose loops a traced pass keeps. Used by `attention.py` and `quantized.py`, for the service's
`engine/programs.py`.

A trace notes which operations were made, so a loop becomes the turns that it took. What is read by TorchScript instead
stays a loop in it. Everywhere else such a function is plain Python.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def as_script(function: Function) -> Function:
    """While a pass is traced, called as TorchScript; the function must keep to the part of Python that this knows."""

    @wraps(function)
    def called(*arguments: Any) -> Any:
        return _read(function)(*arguments) if torch._C._is_tracing() else function(*arguments)

    return cast(Function, called)


@cache
def _read(function: Callable[..., Any]) -> Any:
    return torch.jit.script(function)
