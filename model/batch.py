"""Padded batches of token ids, shared by training and serving, so that both see the same model input.

Shapes: B batch, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.tokenizer import Encoding


@dataclass(frozen=True)
class Batch:
    """Rows of token ids padded on the right to the longest row."""

    ids: Tensor  # [B, T] int64
    segments: Tensor  # [B, T] int64
    real: Tensor  # [B, T] bool, True = a real token, False = padding

    @property
    def num_tokens(self) -> int:
        """Tokens the forward pass computes, padding included."""
        return self.ids.numel()

    @property
    def padding_share(self) -> float:
        return 1.0 - float(self.real.sum()) / self.ids.numel()

    def attention_mask(self) -> Tensor | None:
        """Key mask bool [B, 1, 1, T], True = may attend; None when no row has padding (the faster kernel)."""
        if bool(self.real.all()):
            return None
        return self.real[:, None, None, :]

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.ids.to(device), self.segments.to(device), self.real.to(device))


def pad(encodings: Sequence[Encoding], pad_id: int) -> Batch:
    """Encodings of different lengths -> one Batch of the longest length."""
    longest = max(len(encoding.ids) for encoding in encodings)
    ids = torch.full((len(encodings), longest), pad_id, dtype=torch.int64)
    segments = torch.zeros((len(encodings), longest), dtype=torch.int64)
    real = torch.zeros((len(encodings), longest), dtype=torch.bool)
    for row, encoding in enumerate(encodings):
        length = len(encoding.ids)
        ids[row, :length] = torch.tensor(encoding.ids)
        segments[row, :length] = torch.tensor(encoding.segments)
        real[row, :length] = True
    return Batch(ids, segments, real)


def length_sorted_batches(lengths: Sequence[int], max_batch_tokens: int, max_rows: int) -> list[list[int]]:
    """Row indices grouped longest first, so that rows x longest stays within the token budget and padding is small.

    A row longer than the budget stands alone. Every index comes back exactly once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    for index in order:
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and len(batches[-1]) < max_rows and (len(batches[-1]) + 1) * longest <= max_batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
