"""What FLOPs and parameters a module has, whatever wraps its linears. Used by `walk.py`.

A multiply-add is 2 FLOPs. Matrix products count; norms, activations, softmax, biases and look-ups do not.
"""

from collections.abc import Iterator

from torch import nn


class Counter:
    """Counts each parameter once, in the module that shows it first: tied weights are free where they come again."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def take(self, *modules: nn.Module | nn.Parameter | None) -> int:
        total = 0
        for module in modules:
            if module is None:
                continue
            for parameter in [module] if isinstance(module, nn.Parameter) else module.parameters():
                if id(parameter) not in self._seen:
                    self._seen.add(id(parameter))
                    total += parameter.numel()
        return total


def linears(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules that map in_features to out_features: `nn.Linear`, or what stands in its place."""
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        yield module
        return
    for child in module.children():
        yield from linears(child)


def features(linear: nn.Module) -> tuple[int, int]:
    return int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]


def linear_flops(module: nn.Module) -> int:
    """FLOPs that all linears in a module cost for one vector through each."""
    return sum(2 * inputs * outputs for inputs, outputs in map(features, linears(module))) + _added_flops(module)


def has_adapter(module: nn.Module) -> bool:
    return _added_flops(module) > 0


def _added_flops(module: nn.Module) -> int:
    """What wrappers with a `.base` add to it: two FLOPs a weight of their own matrices."""
    added = 0
    for linear in linears(module):
        base = getattr(linear, "base", None)
        if isinstance(base, nn.Module):
            inside = {id(parameter) for parameter in base.parameters()}
            own = [parameter for parameter in linear.parameters() if id(parameter) not in inside]
            added += sum(2 * parameter.numel() for parameter in own if parameter.dim() >= 2)
    return added


def activation_name(module: nn.Module) -> str:
    """ReLU, GELU or tanh, from the function the module calls."""
    function = getattr(module, "activation", None)
    name = str(getattr(getattr(function, "func", function), "__name__", "activation"))  # a partial hides its function
    return {"relu": "ReLU", "gelu": "GELU"}.get(name, name)
