"""Data parallelism: several processes, each with its share of every batch. Used by `trainer.py`.

`torchrun` starts the processes and says who is who; without it there is one. A step's gradients and their weight are
added up over all processes, so that the step is the one a single process would make. Each holds the whole model, or,
for models that don't fit a device, a part of every weight: see `sharding.py`.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

Item = TypeVar("Item")
BUCKET_ELEMENTS = 2**22  # added up in one message, so that the copy they travel in stays small
WAIT = timedelta(hours=6)  # for another process that prepares a large corpus; torchrun ends all when one has failed
LAST_WORDS_SECONDS = 30.0  # for the process that failed first to say why, before the others end too


class DifferentRuns(RuntimeError):
    """The processes of one run do not see the same data, settings or files."""


@dataclass(frozen=True)
class World:
    """The processes of one run. Every process makes every step; the first writes files and speaks to the user."""

    rank: int = 0
    size: int = 1
    local_size: int = 1  # of them on this machine
    shards: bool = False  # each holds a part of every weight instead of the whole model

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, rows: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a batch; may be empty when the batch has fewer rows than there are processes."""
        return rows[self.rank :: self.size]

    def turns(self, batches: Sequence[Item]) -> Iterator[tuple[Item, bool]]:
        """This process's part of the batches of an evaluation, each with True. A process that has run out when others
        have not takes the first batch again, with False: sharded weights come together only where all ask for them."""
        for start in range(0, len(batches), self.size):
            mine = start + self.rank
            yield (batches[mine], True) if mine < len(batches) else (batches[0], False)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sums each tensor over all processes, in place."""
        if self.size > 1:
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                dist.all_reduce(flat)
                for tensor, part in zip(bucket, torch.split(flat, [one.numel() for one in bucket]), strict=True):
                    tensor.copy_(part.view_as(tensor))

    def largest(self, tensor: Tensor) -> Tensor:
        """Each element's largest value over all processes."""
        result = tensor.clone()
        if self.size > 1:
            dist.all_reduce(result, dist.ReduceOp.MAX)
        return result

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return bool(self.largest(torch.tensor(int(flag))))

    def smallest(self, number: int) -> int:
        return -int(self.largest(torch.tensor(-number)))

    def from_leader(self, make: Callable[[], Item]) -> Item:
        """What the first process makes, in all of them."""
        if self.size == 1:
            return make()
        made: list[Any] = [make() if self.leads else None]
        dist.broadcast_object_list(made)
        result: Item = made[0]
        return result

    def copy_from_leader(self, tensors: Sequence[Tensor]) -> None:
        """The first process's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def must_agree(self, value: object, what: str) -> None:
        """Raises DifferentRuns in every process when one has another value than the first."""
        first = self.from_leader(lambda: value)
        if self.any(value != first):
            raise DifferentRuns(
                f"the processes differ in {what}: the first has {first}, process {self.rank} has {value}; give all of "
                "them the same arguments and files, on several machines by a folder that they share"
            )

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Within, the first process goes before the others, which then find what it has left on disk."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type together, up to BUCKET_ELEMENTS."""
    bucket: list[Tensor] = []
    elements = 0
    for tensor in tensors:
        if bucket and (elements + tensor.numel() > BUCKET_ELEMENTS or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, elements = [], 0
        bucket.append(tensor)
        elements += tensor.numel()
    if bucket:
        yield bucket


@contextmanager
def join_world(device: torch.device, shards: bool = False) -> Iterator[World]:
    """The processes `torchrun` has started, or this one alone. NCCL between GPUs, Gloo between CPUs.

    Of an error in several processes the first to meet it raises it; torchrun then ends the others, which say nothing.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        if shards:
            raise ValueError(
                "--shard spreads the weights over several processes, and there is one; start it with torchrun"
            )
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _import_before_the_group()
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, _ = next(rendezvous("env://", timeout=WAIT))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    try:
        yield World(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), shards)
    except (Exception, KeyboardInterrupt) as error:
        if not _is_first_to_fail(store, rank):
            time.sleep(LAST_WORDS_SECONDS)
            raise SystemExit(1) from error
        if another_has_ended(error):
            raise RuntimeError(
                "another process of this run has ended without a word, perhaps for lack of memory; start it again, and "
                "it continues from its last checkpoint"
            ) from error
        raise
    dist.destroy_process_group()
    gc.collect()  # sharded models refer to the group in circles


def another_has_ended(error: BaseException) -> bool:
    """Whether this error says that another process of the run is gone."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _import_before_the_group() -> None:
    """What has the group that exists at its import as the default of arguments, and so keeps it: then its threads would
    outlive `destroy_process_group` and could abort the process while the interpreter ends. Optimisers import it."""
    import torch.distributed.fsdp
    import torch.distributed.nn  # noqa: F401


def _is_first_to_fail(store: Store, rank: int) -> bool:
    try:
        return bool(store.compare_set("failed", "", str(rank)) == str(rank).encode())
    except RuntimeError:  # the first process held the store, and is gone
        return False


def own_device() -> torch.device:
    """The GPU of this process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
