"""How much memory a run will need, measured before it starts. Used by `trainer.py`.

A kernel that runs out of memory kills without a word, so the need is known beforehand: two forward passes, of one and
of two of the longest rows, tell what each further row takes; the rest follows from the parameters.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from training.sharding import LESS_MEMORY, NotEnoughMemory, Placement, own_part

SPARE_SHARE = 0.1  # of the free memory, left to others
WEIGHT_BYTES, GRADIENT_BYTES, ADAM_BYTES = 4, 4, 8  # a trained parameter
EVALUATION_BYTES = 2**28  # held-out rows pass in batches that need no more: see MAX_LOGIT_BYTES in `objectives.py`
MAPPED_BYTES = 2**25  # glibc gives blocks from this size on back at once (mallopt(3), M_MMAP_THRESHOLD)
CUBLAS_BYTES = 2**25  # its workspace on the newest GPUs
HOLES = 1.0  # of what a batch keeps in glibc's heap, where parts of a step leave gaps that fit no later tensor
HOLES_OF_LENGTHS = 1.6  # the same where batches are of many lengths; up to 1.4 was seen
Sizes = Counter[int]  # of tensors, in bytes -> how many there are


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes. Of a CPU run the whole process, of a GPU run what is on the device."""

    present: int  # what is held before the first step: weights, data, libraries
    training: int  # gradients and optimiser state
    writing: int  # the optimiser state (of sharded weights the whole, and they too) once more in a checkpoint's making
    fixed: int  # kept by a forward pass whatever the rows: weights in bfloat16, sharded weights while they are whole
    per_row: int  # kept for the backward pass of one of the longest rows
    passing: int  # a row's largest tensor: gradients of its size come and go
    scrap: tuple[int, ...] = ()  # a row's other tensors: freed at once, but glibc's heap seldom gives their place again
    kept: tuple[int, ...] = ()  # a row's tensors of `per_row`, where glibc's heap may hold them
    one_length: bool = False  # of all rows
    at_once: int = 2  # gradients of the size of `passing`
    gradients: int = 0  # of `training`: each lane has its own

    def peak(self, rows: int, lanes: int = 1) -> int:
        """With so many rows passing through the model at once, in so many parts side by side."""
        of_lane = -(-rows // lanes)
        scrap = lanes * sum(of_lane * size for size in self.scrap if of_lane * size < MAPPED_BYTES)
        in_heap = lanes * sum(min(of_lane * size, MAPPED_BYTES) for size in self.kept)
        lost = max(scrap + int(HOLES * in_heap), 0 if self.one_length else int(HOLES_OF_LENGTHS * in_heap))
        step = self.fixed + rows * (self.per_row + self.at_once * self.passing) + lost
        step += (lanes - 1) * (self.fixed + self.gradients)
        return self.present + self.training + max(step, self.writing, EVALUATION_BYTES)


def measure_need(
    model: nn.Module,
    loss_of_longest: Callable[[int], Tensor],
    placement: Placement | None = None,
    averaged: bool = False,
    one_length: bool = False,
) -> MemoryNeed:
    """`loss_of_longest(n)` gives the loss of the n longest rows; `one_length` says that all are as long. Nothing is
    changed in the model. The mean of the weights, where they are `averaged`, is there already."""
    device = next(model.parameters()).device
    on_cpu = device.type == "cpu"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    own = sum(own_part(parameter).numel() for parameter in trained)
    gathered = placement.gathered_bytes if placement else None
    writing = own * ADAM_BYTES
    if gathered is not None:
        writing = sum(map(torch.numel, trained)) * (ADAM_BYTES + WEIGHT_BYTES * (2 if averaged else 1))
    try:
        saved_of_one, made_of_one = _sizes(model, loss_of_longest, 1, placement)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise NotEnoughMemory.met() from error
    try:
        saved_of_two, _ = _sizes(model, loss_of_longest, 2, placement)
    except RuntimeError as error:  # one row may fit all the same
        if not is_out_of_memory(error):
            raise
        if gathered is not None:  # the other processes wait for this one
            raise NotEnoughMemory.met() from error
        saved_of_two = Counter({2 * size: times for size, times in saved_of_one.items()})
    per_row = max(0, _total(saved_of_two) - _total(saved_of_one))
    return MemoryNeed(
        present=_present_bytes(device),
        training=own * (GRADIENT_BYTES + ADAM_BYTES),
        writing=writing if on_cpu else 0,
        fixed=max(0, _total(saved_of_one) - per_row) + (gathered or 0) + (0 if on_cpu else CUBLAS_BYTES),
        per_row=per_row,
        passing=max(saved_of_two - saved_of_one, default=0) // 2,
        scrap=tuple((made_of_one - saved_of_one).elements()) if on_cpu and gathered is None else (),
        kept=tuple(saved_of_one.elements()) if on_cpu else (),
        one_length=one_length,
        at_once=2 if on_cpu else 3,
        gradients=own * GRADIENT_BYTES,
    )


def _storages(model: nn.Module) -> set[int]:
    return {own_part(parameter).untyped_storage().data_ptr() for parameter in model.parameters()}


def largest_micro_batch(need: MemoryNeed, batch_size: int, free_bytes: int) -> int:
    """Rows at once: the whole batch, or the half of it, the quarter ..., whatever fits. `free_bytes` beside what is
    present. Raises NotEnoughMemory when not even one row does."""
    limit = _limit(need, free_bytes)
    rows = batch_size
    while need.peak(rows) > limit:
        if rows == 1:
            raise NotEnoughMemory(
                f"this run needs about {gibibytes(need.peak(1))} with one row at a time, and {gibibytes(limit)} can be "
                f"had; {LESS_MEMORY}"
            )
        rows = -(-rows // 2)
    return rows


def fitting_lanes(need: MemoryNeed, rows: int, most: int, free_bytes: int) -> int:
    """All that are wanted, or one, if their gradients do not fit beside each other."""
    return most if need.peak(rows, most) <= _limit(need, free_bytes) else 1


def _limit(need: MemoryNeed, free_bytes: int) -> int:
    return need.present + int(free_bytes * (1 - SPARE_SHARE))


def free_memory(
    device: torch.device, processes: Path = Path("/proc"), control_groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes that this process may still take: of the GPU, or of the machine, its container or its service, whichever
    has least."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fields = dict(line.split(":") for line in (processes / "meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return min([free, *(_left_in(group) for group in _limited_groups(processes, control_groups))])


def gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def is_out_of_memory(error: RuntimeError) -> bool:
    """A GPU that is full, or a CPU process that is refused memory (`ulimit -v`)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _limited_groups(processes: Path, control_groups: Path) -> Iterator[Path]:
    """The control groups (version 2) this process is in that have a limit, from its own up to the root."""
    own = processes / "self" / "cgroup"
    names = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")] if own.is_file() else []
    inside = Path(names[0].lstrip("/")) if names else Path()
    for group in (inside, *inside.parents):
        limit = control_groups / group / "memory.max"
        if limit.is_file() and limit.read_text().strip() != "max":
            yield limit.parent


def _left_in(group: Path) -> int:
    """Files that nobody uses at the moment make room when it is needed."""
    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    used = int((group / "memory.current").read_text()) - int(statistics.get("inactive_file", 0))
    return int((group / "memory.max").read_text()) - used


def _present_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _sizes(
    model: nn.Module, loss_of_longest: Callable[[int], Tensor], rows: int, placement: Placement | None
) -> tuple[Sizes, Sizes]:
    """Of one forward pass: the tensors that autograd keeps, the weights left out, and all tensors that were made.
    Raises OutOfMemoryError on a CPU too, before what is kept fills the memory and the kernel ends the process."""
    device = next(model.parameters()).device
    room = free_memory(device) if device.type == "cpu" else None
    held = _storages(model)
    sharded = placement is not None and placement.gathered_bytes is not None
    kept: dict[int, int] = {}
    made = _Made()

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in (_storages(model) if sharded else held):  # sharded weights come and go
            kept[storage.data_ptr()] = storage.nbytes()
            if room is not None and sum(kept.values()) > room:
                raise torch.OutOfMemoryError(f"{rows} rows keep more than {gibibytes(room)}")
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), made:
        loss = loss_of_longest(rows)
    if placement is not None:
        placement.drop(loss)
    return Counter(kept.values()), made.sizes


class _Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within, notes the size of each tensor that an operation makes: not of views, nor of what is changed in place."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: Sizes = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Else torch imports its compiler, to keep it from this; see `adamw.py`."""
        return False

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given:
                self.sizes[storage.nbytes()] += 1
        return result


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _total(sizes: Sizes) -> int:
    return sum(size * times for size, times in sizes.items())
