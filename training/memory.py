"""How much memory a run will need, measured before it starts. Used by `trainer.py`.

A kernel that runs out of memory kills without a word, so the need is known beforehand: two forward passes, of one and
of two of the longest rows, tell what each further row keeps for the backward pass; the rest follows from the
parameters.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

SPARE_SHARE = 0.1  # of the free memory, left to others
GRADIENT_BYTES, ADAM_BYTES = 4, 8  # a trained parameter
CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes. Of a CPU run the whole process, of a GPU run what is on the device."""

    present: int  # what is held before the first step: weights, data, libraries
    training: int  # gradients, optimiser state, and a copy of the latter while a checkpoint is written
    fixed: int  # kept by a forward pass whatever the rows: weights in bfloat16
    per_row: int  # kept for the backward pass of one of the longest rows
    passing: int  # a row's largest tensor: its gradient and one more of its size come and go

    def peak(self, rows: int) -> int:
        """With so many rows passing through the model at once."""
        return self.present + self.training + self.fixed + rows * (self.per_row + 2 * self.passing)


def measure_need(model: nn.Module, loss_of_longest: Callable[[int], Tensor]) -> MemoryNeed:
    """`loss_of_longest(n)` gives the loss of the n longest rows. Nothing is changed in the model."""
    device = next(model.parameters()).device
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    one, largest_of_one = _saved_bytes(loss_of_longest, 1, weights)
    two, largest_of_two = _saved_bytes(loss_of_longest, 2, weights)
    per_row = max(0, two - one)
    passing = max(0, largest_of_two - largest_of_one)
    training = trained * (GRADIENT_BYTES + ADAM_BYTES + (ADAM_BYTES if device.type == "cpu" else 0))
    return MemoryNeed(_present_bytes(device), training, max(0, one - per_row), per_row, passing)


def largest_micro_batch(need: MemoryNeed, batch_size: int, free_bytes: int) -> int:
    """Rows at once: the whole batch, or the half of it, the quarter ..., whatever fits. `free_bytes` beside what is
    present. Raises ValueError when not even one row does."""
    limit = need.present + int(free_bytes * (1 - SPARE_SHARE))
    rows = batch_size
    while need.peak(rows) > limit:
        if rows == 1:
            raise ValueError(
                f"this run needs about {gibibytes(need.peak(1))} with one row at a time, and {gibibytes(limit)} can be "
                "had; lower max_length, choose adapter 'lora' or a smaller base, or free some memory"
            )
        rows = -(-rows // 2)
    return rows


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take: of the GPU, or of the machine or the container, whichever has less."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = CONTROL_GROUP / "memory.max", CONTROL_GROUP / "memory.current"
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()) != "max":
        cached = dict(line.split() for line in (CONTROL_GROUP / "memory.stat").read_text().splitlines())
        free = min(free, int(text) - int(used.read_text()) + int(cached.get("inactive_file", 0)))
    return free


def gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _present_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _saved_bytes(loss_of_longest: Callable[[int], Tensor], rows: int, weights: set[int]) -> tuple[int, int]:
    """What autograd keeps of one forward pass, the weights themselves left out: all of it, and the largest piece."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of_longest(rows)
    return sum(kept.values()), max(kept.values(), default=0)
