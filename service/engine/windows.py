"""Texts longer than a model reads, cut into overlapping windows whose answers become one. Used by the routes.

Shapes: T tokens, C classes, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.tokenizer import Encoding
from service.engine.runner import Array

OVERLAP = 0.25  # of a window is read in the one before, too, so that no token is without what stands around it


@dataclass(frozen=True)
class Window:
    """A part of a text as the model reads it, with the text's special tokens."""

    encoding: Encoding
    places: Sequence[int]  # of its tokens among those of the whole text


@dataclass(frozen=True)
class Read:
    """One text, whole or in windows."""

    whole: Encoding
    windows: Sequence[Window]

    def mean(self, rows: Sequence[Array]) -> Array:
        """One answer from those of the windows, each with the weight of its tokens."""
        if len(rows) == 1:
            return rows[0]
        weights = [len(window.places) for window in self.windows]
        mean: Array = np.average(np.stack(rows), axis=0, weights=weights).astype(np.float32)
        return mean

    def unit_mean(self, rows: Sequence[Array]) -> Array:
        """The same for vectors of unit length [D]."""
        mean = self.mean(rows)
        unit: Array = mean if len(rows) == 1 else mean / max(float(np.linalg.norm(mean)), 1e-12)
        return unit

    def by_token(self, rows: Sequence[Array]) -> Array:
        """[T, C] of the whole text from [T, C] of its windows: a token has the answer of the window in which it stands
        furthest from an end."""
        if len(rows) == 1:
            return rows[0]
        joined: Array = np.zeros((len(self.whole.ids), rows[0].shape[1]), dtype=np.float32)
        best = np.full(len(self.whole.ids), -1)
        for window, row in zip(self.windows, rows, strict=True):
            places = np.array(window.places)
            distance = np.minimum(np.arange(len(places)), np.arange(len(places))[::-1])
            better = distance > best[places]
            joined[places[better]], best[places[better]] = row[better], distance[better]
        return joined


@dataclass(frozen=True)
class Texts:
    """All texts of a request."""

    reads: Sequence[Read]

    @property
    def encodings(self) -> list[Encoding]:
        """What the model is to read, window by window."""
        return [window.encoding for read in self.reads for window in read.windows]

    def own(self, rows: Sequence[Array]) -> list[tuple[Read, Sequence[Array]]]:
        """Each text with the rows of its windows."""
        found, start = [], 0
        for read in self.reads:
            found.append((read, rows[start : start + len(read.windows)]))
            start += len(read.windows)
        return found


def whole(encodings: Sequence[Encoding]) -> Texts:
    """Texts that fit."""
    return Texts([Read(encoding, [Window(encoding, range(len(encoding.ids)))]) for encoding in encodings])


def windowed(encodings: Sequence[Encoding], max_length: int) -> Texts:
    """Texts of any length, none a pair, in windows of at most max_length tokens, special tokens included."""
    return Texts([Read(encoding, windows_of(encoding, max_length)) for encoding in encodings])


def windows_of(encoding: Encoding, max_length: int) -> list[Window]:
    """The fewest windows that overlap by OVERLAP at least, spread evenly."""
    if len(encoding.ids) <= max_length:
        return [Window(encoding, range(len(encoding.ids)))]
    own = [place for place, special in enumerate(encoding.special) if not special]
    before = range(own[0])  # special tokens stand at both ends
    after = range(own[-1] + 1, len(encoding.ids))
    room = max(1, max_length - len(before) - len(after))
    step = max(1, int(room * (1.0 - OVERLAP)))
    count = 1 + -(-(len(own) - room) // step)
    starts = [round(number * (len(own) - room) / (count - 1)) for number in range(count)]
    kept = [[*before, *own[start : start + room], *after] for start in starts]
    return [Window(encoding.take(places), places) for places in kept]
