"""Interpolated modified Kneser-Ney n-grams over token ids (Chen and Goodman 1998): the language model to beat.

An n-gram is known by its number: the number of its first n-1 tokens, times the alphabet, plus its last token, looked
up among the sorted keys of its order. Millions of tokens are counted with a few sorts and no dictionary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
FALLBACK_DISCOUNTS = np.array([0.0, 0.5, 1.0, 1.5])  # KenLM's, where a corpus is too small to estimate them


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order, by number; contexts are numbers of the order below."""

    keys: Integers  # [grams], sorted: context number * alphabet + last token
    own: Floats  # [grams] discounted count / count of the context
    rest: Floats  # [contexts] mass left to the order below; 1 where the context was never followed


@dataclass(frozen=True)
class _Grams:
    """The different n-grams of one length in the training stream."""

    keys: Integers  # [grams], sorted
    ends: Integers  # [grams] a position where it ends
    counts: Integers  # [grams]
    numbers: Integers  # [positions] which n-gram ends here; -1 where it would reach over the begin mark


class KneserNey:
    """Fit once, then ask for bits. A document starts after a begin mark and ends with a predicted end mark."""

    def __init__(self, order: int = 5) -> None:
        if order < 1:
            raise ValueError(f"order {order} is below 1; use 1 for a unigram model")
        self.order = order

    def fit(self, documents: Sequence[Sequence[int]], vocab_size: int) -> "KneserNey":
        """Counts the documents; token ids lie in [0, vocab_size)."""
        if not documents:
            raise ValueError("no documents to learn from; give at least one")
        self.vocab_size = vocab_size
        self.end, self.begin, self.alphabet = vocab_size, vocab_size + 1, vocab_size + 2
        tokens, offsets = self._stream(documents)
        grams = [self._count(1, tokens, tokens, offsets)]
        for length in range(2, self.order + 1):
            grams.append(self._count(length, tokens, grams[-1].numbers, offsets))
        self._orders: list[_Order] = []
        for length, (these, longer) in enumerate(zip(grams, [*grams[1:], None], strict=True), start=1):
            counts = these.counts
            if longer is not None:  # how many different tokens stand before it, rather than how often it occurs;
                left_neighbours = np.bincount(these.numbers[longer.ends], minlength=len(these.keys))
                # nothing stands before a begin mark, so n-grams that start with one keep their counts.
                begins = (offsets[these.ends] == length - 1) & (length > 1)
                counts = np.where(begins, counts, left_neighbours)
            contexts = these.keys // self.alphabet if length > 1 else np.zeros(self.alphabet, np.int64)
            num_contexts = len(grams[length - 2].keys) if length > 1 else 1
            self._orders.append(_order(these.keys, counts, contexts, num_contexts))
        return self

    def _count(self, length: int, tokens: Integers, shorter: Integers, offsets: Integers) -> _Grams:
        """The n-grams of one length; `shorter` has the numbers of those one token shorter, where they end."""
        positions = np.flatnonzero(offsets >= max(length - 1, 1))
        if length == 1:  # every token is its own number, seen or not
            ends = np.zeros(self.alphabet, np.int64)
            ends[tokens[positions]] = positions
            counts = np.bincount(tokens[positions], minlength=self.alphabet)
            return _Grams(np.arange(self.alphabet), ends, counts, tokens)
        keys, first, inverse, counts = np.unique(
            shorter[positions - 1] * self.alphabet + tokens[positions],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        numbers = np.full(len(tokens), -1)
        numbers[positions] = inverse
        return _Grams(keys, positions[first], counts, numbers)

    def probabilities(self, context: Sequence[int]) -> Floats:
        """[vocab_size + 1] for the token after a document's beginning; the last entry is the end mark."""
        rows = np.tile(np.array([self.begin, *context, 0]), (self.vocab_size + 1, 1))
        rows[:, -1] = np.arange(self.vocab_size + 1)
        offsets = np.tile(np.arange(rows.shape[1]), len(rows))
        last = np.flatnonzero(offsets == rows.shape[1] - 1)
        return np.take(self._score(rows.ravel(), offsets), last)

    def bits(self, documents: Sequence[Sequence[int]]) -> float:
        """Total -log2 probability of the documents, their end marks included."""
        tokens, offsets = self._stream(documents)
        return float(-np.log2(self._score(tokens, offsets)[offsets > 0]).sum())

    def _stream(self, documents: Sequence[Sequence[int]]) -> tuple[Integers, Integers]:
        """All documents with their marks in one row -> (tokens, distance of each from its begin mark)."""
        lengths = np.array([len(document) + 2 for document in documents], dtype=np.int64)
        if not len(lengths):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        tokens = np.concatenate([np.array([self.begin, *document, self.end], np.int64) for document in documents])
        offsets = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        inside = (offsets > 0) & (offsets < np.repeat(lengths, lengths) - 1)
        wrong = inside & ((tokens < 0) | (tokens >= self.vocab_size))
        if wrong.any():
            raise ValueError(f"token id {tokens[wrong][0]} is outside [0, {self.vocab_size}); raise vocab_size")
        return tokens, offsets

    def _score(self, tokens: Integers, offsets: Integers) -> Floats:
        """[positions] probability of each token after the ones before it; begin marks have no meaning here."""
        unigrams = self._orders[0]
        scores: Floats = unigrams.own[tokens] + unigrams.rest[0] / (self.vocab_size + 1)
        numbers = tokens
        for length in range(2, self.order + 1):
            level = self._orders[length - 1]
            if not len(level.keys):  # no training document was that long
                break
            contexts = np.concatenate([[-1], numbers[:-1]])
            contexts[offsets < length - 1] = -1
            known = np.flatnonzero(contexts >= 0)
            grams = contexts[known] * self.alphabet + tokens[known]
            places = np.minimum(np.searchsorted(level.keys, grams), len(level.keys) - 1)
            seen = level.keys[places] == grams
            scores[known] = level.rest[contexts[known]] * scores[known] + np.where(seen, level.own[places], 0.0)
            numbers = np.full(len(tokens), -1)
            numbers[known[seen]] = places[seen]
        return scores


def _order(keys: Integers, counts: Integers, contexts: Integers, num_contexts: int) -> _Order:
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    totals = np.bincount(contexts, weights=counts, minlength=num_contexts)
    taken = np.bincount(contexts, weights=discounts, minlength=num_contexts)
    rest = np.divide(taken, totals, out=np.ones(num_contexts), where=totals > 0)
    own = np.divide(counts - discounts, totals[contexts], out=np.zeros(len(keys)), where=counts > 0)
    return _Order(keys, own, rest)


def _discounts(counts: Integers) -> Floats:
    """What to take from counts of 0, 1, 2 and 3 or more, from the numbers of n-grams seen 1 to 4 times."""
    n1, n2, n3, n4 = (float((counts == times).sum()) for times in (1, 2, 3, 4))
    if 0.0 in (n1, n2, n3, n4):
        return FALLBACK_DISCOUNTS
    share = n1 / (n1 + 2 * n2)
    found = np.array([0.0, 1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3])
    usable = ((found[1:] > 0) & (found[1:] < (1, 2, 3))).all()
    return found if usable else FALLBACK_DISCOUNTS
