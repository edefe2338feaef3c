"""Dropout (Srivastava et al. 2014). Used by `attention.py`, `layers.py`, `transformer.py` and `heads.py`.

On a CPU, torch's own draws a Bernoulli number an element, which costs more than every LayerNorm and GELU of a training
step together. Here 16 random bits an element decide, and a bitwise "and" clears what is dropped; how much faster that
is stands in benchmarks/results/dropout.md. On other devices torch's own is used.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BITS_DTYPE = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes an element
_chance = threading.local()  # `generator`, of those threads that have one


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Within, dropout on a CPU draws from it in the calling thread. Threads that draw from one generator side by side
    would each have other numbers every time."""
    before = getattr(_chance, "generator", None)
    _chance.generator = generator
    try:
        yield
    finally:
        _chance.generator = before


class Dropout(nn.Module):
    """In training, sets each element to zero with probability `p` and multiplies the others by 1 / (1 - p)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return drop(values, self.p) if self.training else values

    def extra_repr(self) -> str:
        return f"p={self.p}"


def drop(values: Tensor, p: float) -> Tensor:
    """Dropout of a tensor, whatever the mode; random numbers come from torch's default generator, or that of
    `drawing_from`."""
    if p == 0.0:
        return values
    if values.device.type != "cpu" or not values.is_floating_point():
        return F.dropout(values, p)
    dropped: Tensor = _CpuDropout.apply(values, p)  # type: ignore[no-untyped-call]
    return dropped


class _CpuDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, p: float) -> Tensor:
        kept = draw_kept(values.shape, p)
        ctx.save_for_backward(kept)
        ctx.scale = 1.0 / (1.0 - p)
        return clear(values, kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return clear(gradients[0], kept).mul_(ctx.scale), None


def draw_kept(shape: torch.Size, p: float) -> Tensor:
    """What dropout leaves: int16 of this shape, -1 (every bit set) where an element is kept, 0 where it is dropped. It
    is kept when its 16 bits, read as a number from -32768, are at least the threshold."""
    generator, count = getattr(_chance, "generator", None), shape.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return draws.view(torch.int16)[:count].view(shape).ge_(round(p * 2**16) - 2**15).neg_()


def clear(values: Tensor, kept: Tensor) -> Tensor:
    """values where `kept` has its bits set, else zero: a new tensor."""
    as_bits = BITS_DTYPE[values.element_size()]
    return (values.contiguous().view(as_bits) & kept.to(as_bits)).view(values.dtype)
