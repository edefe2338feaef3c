"""Where the weights of a model lie while it trains: whole in each process, or sharded, so that each process holds a
part of every weight, gradient and moment (FSDP, Zhao et al. 2023; torch's `fully_shard`), for models that do not fit
one device. Used by `trainer.py` and by those that build its model.

A sharded layer is whole for as long as it computes, forward and backward. All processes must ask for it together: every
pass goes through `Placement.within`, in each process equally often.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from model.heads import TextModel
from model.layers import EncoderLayer
from training.parallel import World

Result = TypeVar("Result")
LESS_MEMORY = (
    "lower max_length, choose adapter 'lora' or a smaller base, or free some memory (where a model is pre-trained: "
    "lower row_tokens, or choose a smaller preset)"
)


class NotEnoughMemory(ValueError):
    """Not even one row at a time fits."""

    @classmethod
    def met(cls) -> "NotEnoughMemory":
        """Not foreseen, but met."""
        return cls(f"memory was not enough for one row at a time; {LESS_MEMORY}")


class Placement:
    """Puts a model on its device, or a part of it. Of a sharded model the weights are read by `whole` alone. Raises
    NotEnoughMemory when the device has no room for the weights."""

    def __init__(self, model: TextModel, device: torch.device, world: World) -> None:
        self._model = model
        self._world = world
        self._bare = _without_weights(model) if world.shards else None
        self._root = _shard(model, device) if world.shards else None
        try:
            model.to(device)
        except torch.OutOfMemoryError as error:
            raise NotEnoughMemory.met() from error

    @property
    def gathered_bytes(self) -> int | None:
        """Of a sharded model, what is whole at once at most: embeddings, head and two layers (the next is fetched while
        one computes), with their gradients and the copies in which these travel. None of a model that is not
        sharded."""
        if self._root is None:
            return None
        layers = [_size(layer) for layer in self._model.modules() if isinstance(layer, EncoderLayer)]
        return 3 * (_size(self._model) - sum(layers)) + 4 * max(layers)

    def within(self, compute: Callable[[], Result]) -> Result:
        """Calls what computes with the model. Its tensors that need gradients must stand in a tuple or be the result:
        backward passes are noticed by them."""
        return compute() if self._root is None else cast(Result, self._root(compute))

    def drop(self, loss: Tensor) -> None:
        """Ends a pass whose gradients nobody wants: FSDP keeps alive for ever what has gone forward only."""
        if self._root is not None:
            loss.backward()  # type: ignore[no-untyped-call]
            self._model.zero_grad()

    def whole_model(self) -> TextModel | None:
        """The model with whole weights, in the first process alone. Called by all."""
        if self._bare is None:
            return self._model if self._world.leads else None
        tensors = gathered(self._model.state_dict(), self._world)
        if not self._world.leads:
            return None
        self._bare.load_state_dict(tensors, assign=True)
        return self._bare


def gathered(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """The tensors, whole, in the first process alone; on the CPU where they were sharded, one after the other, since
    together they may not fit the device. Called by all."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        one = whole(tensor.detach())
        if world.leads:
            kept[name] = one.cpu() if world.shards else one
    return kept


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process. A sharded one is a DTensor, told by its method: importing the class takes
    seconds that most runs need not wait."""
    full: Callable[[], Tensor] | None = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    local: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    if local is None:
        return tensor
    with torch.no_grad():
        return local()


def part_like(tensor: Tensor, like: Any) -> Tensor:
    """A whole tensor laid out as `like` is; every process has the whole."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


class _Root(nn.Module):
    """What FSDP takes for the model: all that is computed with the weights happens in its forward pass, whichever of
    the model's methods it goes through."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


def _shard(model: TextModel, device: torch.device) -> _Root:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    # DTensor's caches keep the mesh as long as the process lives. It must not keep the group, which it holds for
    # torch.compile alone: see `parallel._import_before_the_group`.
    getattr(mesh, "_pg_registry", {}).clear()
    for layer in model.modules():
        if isinstance(layer, EncoderLayer):
            fully_shard(layer, mesh=mesh)
            register_fsdp_forward_method(layer, "first_token")
    root = _Root(model)
    fully_shard(root, mesh=mesh, reshard_after_forward=True)  # the rest: embeddings and head
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum, see `gradients.py`; by default it would be a mean
            module.set_force_sum_reduction_for_comms(True)  # Gloo knows nothing else
    return root


def _size(module: nn.Module) -> int:
    """Bytes of its whole parameters."""
    return sum(one.numel() * one.element_size() for one in module.parameters())


def _without_weights(model: TextModel) -> TextModel:
    """A copy whose parameters take no memory."""
    empty = {id(one): nn.Parameter(one.to("meta"), one.requires_grad) for one in model.parameters()}
    return copy.deepcopy(model, cast(dict[int, Any], empty))
