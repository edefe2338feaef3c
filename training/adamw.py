"""torch's AdamW without torch's compiler, which it imports to keep out of what is compiled. Nothing is compiled here,
and the import takes longer than that of torch itself. Used by `optim.py` and `row_adamw.py`."""

import inspect
from typing import Any

import torch

# The functions themselves, below what wraps them to import torch._dynamo.
_step = inspect.unwrap(torch.optim.AdamW.step)
_state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
_load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
_zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
_add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)


class AdamW(torch.optim.AdamW):
    """The same numbers, to the bit. Not for what is compiled by torch.compile."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        return _step(self, closure)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = _state_dict(self)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        _load_state_dict(self, state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        _zero_grad(self, set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)
