"""The key-value cache: what a decoder keeps of the tokens it has seen, so that a new one costs one token's work.

Each row has a length of its own, so rows may join and leave between two steps. Used by `attention.py`, `transformer.py`
and `generation.py`. Shapes: B rows, T new tokens, S slots, H heads, K head width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

GROWTH = 64  # slots added at a time


class LayerCache:
    """Keys and values of one layer: [B, H, S, K] each. Slot s of a row holds its token number s."""

    def __init__(self, starts: Tensor) -> None:
        self.starts = starts  # [B] int64, tokens a row holds before this step
        self.longest = 0  # slots any row uses after this step
        self.key: Tensor | None = None
        self.value: Tensor | None = None
        self.memory: tuple[Tensor, Tensor] | None = None  # cross-attention's keys and values, computed once

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the new tokens' key and value [B, H, T, K] at each row's end -> all of them [B, H, longest, K]."""
        self.key, self.value = self._room(self.key, key), self._room(self.value, value)
        rows = torch.arange(key.size(0), device=key.device)[:, None]  # [B, 1]
        slots = self.starts[:, None] + torch.arange(key.size(2), device=key.device)  # [B, T]
        self.key[rows, :, slots] = key.transpose(1, 2)  # [B, T, H, K]
        self.value[rows, :, slots] = value.transpose(1, 2)
        return self.key[:, :, : self.longest], self.value[:, :, : self.longest]

    def _room(self, held: Tensor | None, new: Tensor) -> Tensor:
        batch, heads, _, head_width = new.shape
        slots = 0 if held is None else held.size(2)
        if held is not None and slots >= self.longest:
            return held
        wider = new.new_zeros(batch, heads, -(-self.longest // GROWTH) * GROWTH, head_width)
        if held is not None:
            wider[:, :, :slots] = held
        return wider


class Cache:
    """The caches of all layers of a decoder, for B rows."""

    def __init__(self, num_layers: int, batch: int, device: torch.device) -> None:
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)  # [B] tokens each row holds
        self.layers = [LayerCache(self.lengths) for _ in range(num_layers)]
        self.memory_mask: Tensor | None = None  # [B, 1, 1, S] bool for cross-attention, set with the memory

    def positions(self, new_tokens: int) -> Tensor:
        """Positions of the next `new_tokens` tokens of every row -> [B, T]."""
        return self.lengths[:, None] + torch.arange(new_tokens, device=self.lengths.device)

    def begin(self, new_tokens: int) -> Tensor:
        """Prepares a step of `new_tokens` -> its mask [B, 1, T, S]: a token sees itself and what came before."""
        longest = int(self.lengths.max()) + new_tokens
        for layer in self.layers:
            layer.starts, layer.longest = self.lengths, longest
        slots = torch.arange(longest, device=self.lengths.device)
        return slots[None, None, None, :] <= self.positions(new_tokens)[:, None, :, None]

    def advance(self, new_tokens: Tensor) -> None:
        """Counts the step's real tokens, [B]; what a row wrote beyond them is padding and is overwritten next."""
        self.lengths = self.lengths + new_tokens

    def select(self, rows: Tensor) -> None:
        """Keeps these rows, in this order; a row may be named more than once (beams) or not at all (finished)."""
        self.lengths = self.lengths[rows]
        for layer in self.layers:
            layer.key, layer.value = _rows(layer.key, rows), _rows(layer.value, rows)
            if layer.memory is not None:
                layer.memory = (layer.memory[0][rows], layer.memory[1][rows])
        self.memory_mask = _rows(self.memory_mask, rows)

    @staticmethod
    def join(caches: Sequence["Cache"]) -> "Cache":
        """The rows of several caches as one; shorter ones are widened with slots that nothing attends to."""
        first = caches[0]
        joined = Cache(len(first.layers), 0, first.lengths.device)
        joined.lengths = torch.cat([cache.lengths for cache in caches])
        for index, layer in enumerate(joined.layers):
            parts = [cache.layers[index] for cache in caches]
            layer.key, layer.value = (
                _concatenate([getattr(part, name) for part in parts]) for name in ("key", "value")
            )
            if parts[0].memory is not None:
                memories = [part.memory for part in parts if part.memory is not None]
                layer.memory = (_concatenate([m[0] for m in memories]), _concatenate([m[1] for m in memories]))
        masks = [cache.memory_mask for cache in caches if cache.memory_mask is not None]
        if masks:
            joined.memory_mask = _concatenate([mask.transpose(2, 3) for mask in masks]).transpose(2, 3)
        return joined


def _rows(tensor: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if tensor is None else tensor[rows]


def _concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """[b, H, s, K] tensors along the rows, the shorter ones filled with zeros (False) to the longest s."""
    longest = max(tensor.size(2) for tensor in tensors)
    total = sum(tensor.size(0) for tensor in tensors)
    joined = tensors[0].new_zeros(total, tensors[0].size(1), longest, tensors[0].size(3))
    start = 0
    for tensor in tensors:
        joined[start : start + tensor.size(0), :, : tensor.size(2)] = tensor
        start += tensor.size(0)
    return joined
