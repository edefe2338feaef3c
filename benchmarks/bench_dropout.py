"""Dropout and attention in training on a CPU: ours against torch's own, forward and backward, side by side.

python -m benchmarks.bench_dropout
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.report import environment, table, write
from model.attention import SelfAttention, dropout_attention
from model.capability import has_bfloat16
from model.dropout import drop

TITLE = "Dropout and attention in training on a CPU, forward and backward, against torch's own"
PAIRS, CALLS = 15, 40
SHAPE = (32, 27, 384)  # a batch of movie sentences in MiniLM
JOINED, NUM_HEADS = (32, 27, 3 * 384), 12


def seconds(call: Callable[[], Tensor], gradient: Tensor) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        call().backward(gradient)  # type: ignore[no-untyped-call]
    return (time.perf_counter() - began) / CALLS


def ratios(theirs: Callable[[], Tensor], ours: Callable[[], Tensor], gradient: Tensor) -> tuple[float, list[float]]:
    """Microseconds of ours (median), and theirs / ours of each pair."""
    seconds(theirs, gradient), seconds(ours, gradient)
    pairs = [(seconds(theirs, gradient), seconds(ours, gradient)) for _ in range(PAIRS)]
    return median(own for _, own in pairs) * 1e6, sorted(their / own for their, own in pairs)


def main() -> None:
    rows = []
    formats = [*([torch.bfloat16] if has_bfloat16(torch.device("cpu")) else []), torch.float32]
    for dtype in formats:
        values = torch.randn(SHAPE, dtype=dtype, requires_grad=True)
        qkv = torch.randn(JOINED, dtype=dtype, requires_grad=True)
        mask = torch.ones(JOINED[0], 1, 1, JOINED[1], dtype=torch.bool)
        mask[::2, ..., -3:] = False
        torchs, by_autograd, written_out = (partial(way, qkv, mask) for way in WAYS)
        dropout = partial(F.dropout, values, 0.1), partial(drop, values, 0.1)
        rows.append(row_of("dropout, torch / ours", dtype, *dropout, values))
        rows.append(row_of("attention, torch / ours by autograd", dtype, torchs, by_autograd, values))
        rows.append(row_of("attention, torch / ours written out", dtype, torchs, written_out, values))
        rows.append(row_of("attention, ours by autograd / written out", dtype, by_autograd, written_out, values))
    header = ["what", "dtype", "the latter, microseconds", "ratio, median", "least to most"]
    shapes = (
        f"Values {SHAPE}, projections {JOINED} of {NUM_HEADS} heads, probability 0.1, {PAIRS} pairs of {CALLS} calls."
    )
    command = "    python -m benchmarks.bench_dropout"
    name = "dropout" if torch.bfloat16 in formats else "dropout_float32"  # one with bfloat16 is not replaced
    write(name, "\n\n".join([f"# {TITLE}", environment(["torch"]), shapes, command, table(header, rows)]))


def torchs_attention(qkv: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*split(qkv), mask, 0.1).transpose(1, 2).flatten(2)


def attention_by_autograd(qkv: Tensor, mask: Tensor) -> Tensor:
    return dropout_attention(*split(qkv), mask, 0.1).transpose(1, 2).flatten(2)


def attention_written_out(qkv: Tensor, mask: Tensor) -> Tensor:
    mixed: Tensor = SelfAttention.apply(qkv, mask, NUM_HEADS, 0.1)  # type: ignore[no-untyped-call]
    return mixed


def split(qkv: Tensor) -> tuple[Tensor, ...]:
    batch, tokens, width = qkv.shape
    return qkv.view(batch, tokens, 3, NUM_HEADS, width // 3 // NUM_HEADS).permute(2, 0, 3, 1, 4).unbind(0)


WAYS = (torchs_attention, attention_by_autograd, attention_written_out)


def row_of(
    name: str, dtype: torch.dtype, theirs: Callable[[], Tensor], ours: Callable[[], Tensor], like: Tensor
) -> list[str]:
    microseconds, found = ratios(theirs, ours, torch.ones_like(like))
    spread = f"{found[0]:.2f} to {found[-1]:.2f}"
    return [name, str(dtype).removeprefix("torch."), f"{microseconds:.0f}", f"{median(found):.2f}", spread]


if __name__ == "__main__":
    main()
