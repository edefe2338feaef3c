"""Data parallelism: several processes, each with its share of every batch and the whole model. Used by `trainer.py`.

`torchrun` starts the processes and says who is who; without it there is one. A step's gradients and their weight are
added up over all processes, so that the step is the one a single process would make.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Row = TypeVar("Row")


@dataclass(frozen=True)
class World:
    """The processes of one run. Every process makes every step; the first writes files and speaks to the user."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, rows: Sequence[Row]) -> Sequence[Row]:
        """This process's part of a batch; may be empty when the batch has fewer rows than there are processes."""
        return rows[self.rank :: self.size]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sums each tensor over all processes, in place."""
        if self.size > 1:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


def join_world(device: torch.device) -> World:
    """The processes `torchrun` has started, or this one alone. NCCL between GPUs, Gloo between CPUs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), size)


def own_device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
