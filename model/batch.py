"""Batches of token ids: padded or packed rows, and documents laid end to end without padding.

Training takes rows; serving, where nothing is learned and lengths are what users send, takes no padding.
Shapes: B batch, T tokens, N tokens of all documents together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

import numpy as np
import torch
from torch import Tensor

from model.tokenizer import Encoding


@dataclass(frozen=True)
class Batch:
    """Rows of token ids. A padded row holds one document, a packed row several that never see each other."""

    ids: Tensor  # [B, T] int64
    segments: Tensor  # [B, T] int64, BERT's token types
    positions: Tensor  # [B, T] int64, counted from 0 in each document
    documents: Tensor  # [B, T] int64: 0 = padding, 1 = a row's first document, 2 = its second, ...
    packed: bool = False  # whether a row may hold more than one document

    @property
    def real(self) -> Tensor:
        """[B, T] bool, True = a real token, False = padding."""
        return self.documents > 0

    @property
    def num_tokens(self) -> int:
        """Tokens the forward pass computes, padding included."""
        return self.ids.numel()

    @property
    def padding_share(self) -> float:
        return 1.0 - float(self.real.sum()) / self.ids.numel()

    def attention_mask(self, causal: bool = False) -> Tensor | None:
        """Bool mask, True = may attend: [B, 1, 1, T] for padding, [B, 1, T, T] when packed or causal.

        None when every token may attend to every token. No row of the mask is all False: padding sees padding.
        """
        if self.packed:
            mask = (self.documents[:, None, :, None] == self.documents[:, None, None, :]).contiguous()
            return mask & _not_later(self.ids.size(1), self.ids.device) if causal else mask
        if causal:  # padding stands on the right, later than every real token
            return _not_later(self.ids.size(1), self.ids.device)
        real = self.real
        return None if bool(real.all()) else real[:, None, None, :]

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.ids.to(device),
            self.segments.to(device),
            self.positions.to(device),
            self.documents.to(device),
            self.packed,
        )


def _not_later(tokens: int, device: torch.device) -> Tensor:
    """[1, 1, T, T] bool: token i may attend to token j when j <= i."""
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()[None, None]


def pad(encodings: Sequence[Encoding], pad_id: int) -> Batch:
    """Encodings of different lengths -> one Batch of the longest length, padded on the right."""
    longest = max(len(encoding.ids) for encoding in encodings)
    ids = torch.full((len(encodings), longest), pad_id, dtype=torch.int64)
    segments = torch.zeros((len(encodings), longest), dtype=torch.int64)
    documents = torch.zeros((len(encodings), longest), dtype=torch.int64)
    for row, encoding in enumerate(encodings):
        length = len(encoding.ids)
        ids[row, :length] = torch.tensor(encoding.ids)
        if any(encoding.segments):
            segments[row, :length] = torch.tensor(encoding.segments)
        documents[row, :length] = 1
    positions = torch.arange(longest).expand(len(encodings), longest)
    return Batch(ids, segments, positions, documents)


def pad_ids(rows: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """The same for bare token ids."""
    return pad([Encoding.of_ids(row) for row in rows], pad_id)


@dataclass(frozen=True)
class Unpadded:
    """Documents one after another, nothing between them. Those of one length make a stretch, so that attention takes
    them as a block without a mask, and every other layer takes all tokens at once."""

    ids: Tensor  # [N] int64
    segments: Tensor  # [N] int64, BERT's token types
    positions: Tensor  # [N] int64, counted from 0 in each document
    starts: Tensor  # [B + 1] int32: where each document begins, in the order they lie; then N
    order: tuple[int, ...]  # which of the encodings lies at each place
    stretches: Tensor  # [S, 2] int64, on the CPU: how many documents of one length lie side by side, and that length
    max_length: int  # of a document

    def to(self, device: torch.device) -> "Unpadded":
        if device == self.ids.device:
            return self
        return replace(
            self,
            ids=self.ids.to(device),
            segments=self.segments.to(device),
            positions=self.positions.to(device),
            starts=self.starts.to(device),
        )

    def first_tokens(self) -> "Unpadded":
        """The same documents, in the same order, cut to a token each."""
        first = self.starts[:-1]
        each = torch.arange(len(self.starts), dtype=self.starts.dtype, device=self.starts.device)
        stretch = torch.tensor([[len(first), 1]])
        ids, segments, positions = self.ids[first], self.segments[first], self.positions[first]
        return Unpadded(ids, segments, positions, each, self.order, stretch, 1)


def unpad(encodings: Sequence[Encoding], groups: Sequence[int] | None = None) -> Unpadded:
    """Encodings -> one Unpadded, sorted by length. With `groups`, documents of one group lie together, and those of one
    length together within it."""
    lengths = [len(encoding.ids) for encoding in encodings]
    of = [0] * len(encodings) if groups is None else groups
    order = sorted(range(len(encodings)), key=lambda index: (of[index], lengths[index]))
    stretches = [(len(list(same)), length) for length, same in groupby(lengths[index] for index in order)]
    starts = [0, *accumulate(lengths[index] for index in order)]
    ids = _integers(number for index in order for number in encodings[index].ids)
    segments = _integers(number for index in order for number in encodings[index].segments)
    positions = _integers(number for index in order for number in range(lengths[index]))
    where = torch.from_numpy(np.array(starts, np.int32))
    alike = torch.from_numpy(np.array(stretches, np.int64))
    return Unpadded(ids, segments, positions, where, tuple(order), alike, max(lengths))


def _integers(numbers: Iterable[int]) -> Tensor:
    return torch.from_numpy(np.fromiter(numbers, np.int64))


@dataclass(frozen=True)
class Place:
    """Where a packed document lies: tokens [start, end) of `row`."""

    row: int
    start: int
    end: int


def pack(encodings: Sequence[Encoding], pad_id: int, row_tokens: int) -> tuple[Batch, list[Place]]:
    """Encodings -> a Batch of rows of `row_tokens`, and where each encoding lies, in order.

    Next fit: a row is filled until the next document does not fit. Raises ValueError for a document longer than a row.
    """
    places: list[Place] = []
    row = end = 0
    for encoding in encodings:
        length = len(encoding.ids)
        if length > row_tokens:
            raise ValueError(f"a document of {length} tokens does not fit a row of {row_tokens}; cut it first")
        if end + length > row_tokens:
            row, end = row + 1, 0
        places.append(Place(row, end, end + length))
        end += length
    shape = (row + 1, row_tokens)
    ids = torch.full(shape, pad_id, dtype=torch.int64)
    segments, positions, documents = (torch.zeros(shape, dtype=torch.int64) for _ in range(3))
    for place, encoding in zip(places, encodings, strict=True):
        where = (place.row, slice(place.start, place.end))
        ids[where] = torch.tensor(encoding.ids)
        segments[where] = torch.tensor(encoding.segments)
        positions[where] = torch.arange(place.end - place.start)
        documents[where] = documents[place.row].max() + 1
    return Batch(ids, segments, positions, documents, packed=True), places


def unpack(rows: Tensor, places: Iterable[Place]) -> list[Tensor]:
    """rows [B, T, ...] of a packed batch -> one tensor [tokens, ...] a document."""
    return [rows[place.row, place.start : place.end] for place in places]


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
