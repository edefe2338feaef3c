"""Texts that are nearly the same, in time linear in the characters: MinHash and locality-sensitive hashing (Broder
1997; Leskovec, Rajaraman and Ullman 2014, chapter 3). Called by `copies.py`.

Shapes: N texts, G grams of all texts, K hash functions.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from training.catalogue.duplicates import letters_key

GRAM = 4  # letters
SIMILARITY = 0.8  # Jaccard's, of the sets of grams, from which on two texts count as nearly the same
NUM_BANDS, BAND_ROWS = 8, 4  # pairs of similarity 0.8 share a band with probability 0.98, of 0.3 with 0.06
CHUNK_CHARACTERS = 2_000_000  # hashed together
Hashes = npt.NDArray[np.uint64]


def near_groups(texts: Sequence[str]) -> list[list[int]]:
    """Groups of texts that are nearly the same as the first of their group. Case, spaces and punctuation don't count;
    texts of fewer than 4 letters stand alone unless their letters are the same."""
    keys = [letters_key(text) for text in texts]
    group_of: dict[int, int] = {}  # text -> first of its group
    first_with: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key and (first := first_with.setdefault(key, index)) != index:
            group_of[index] = first
    distinct = [index for index in first_with.values() if len(keys[index]) >= GRAM]
    for first, other in _pairs(keys, distinct):
        root, leaf = group_of.get(first, first), group_of.get(other, other)
        if root != leaf and group_of.get(leaf) is None:
            group_of[max(root, leaf)] = min(root, leaf)
    groups: dict[int, list[int]] = {}
    for index in sorted(group_of):
        groups.setdefault(_root(group_of, index), []).append(index)
    return [[first, *rest] for first, rest in sorted(groups.items())]


def _root(group_of: dict[int, int], index: int) -> int:
    while index in group_of:
        index = group_of[index]
    return index


def _pairs(keys: Sequence[str], distinct: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs that share a band and are similar indeed; each text is compared with one other a band at most."""
    if not distinct:
        return
    signatures = np.concatenate(list(_signatures([keys[index] for index in distinct])), axis=1)  # [K, N]
    seen: set[tuple[int, int]] = set()
    for band in range(NUM_BANDS):
        rows = signatures[band * BAND_ROWS : (band + 1) * BAND_ROWS]
        _, bucket, counts = np.unique(_mix(rows), return_inverse=True, return_counts=True)
        first_in: dict[int, int] = {}
        for place in np.flatnonzero(counts[bucket] > 1).tolist():
            first = first_in.setdefault(int(bucket[place]), place)
            if first != place and (first, place) not in seen:
                seen.add((first, place))
                if similarity(keys[distinct[first]], keys[distinct[place]]) >= SIMILARITY:
                    yield distinct[first], distinct[place]


def similarity(first: str, second: str) -> float:
    """Jaccard's, of the two sets of grams."""
    ours, theirs = (
        {key[start : start + GRAM] for start in range(max(1, len(key) - GRAM + 1))} for key in (first, second)
    )
    return len(ours & theirs) / max(1, len(ours | theirs))


def _signatures(keys: Sequence[str]) -> Iterator[Hashes]:
    """[K, n] of each chunk of the keys: the smallest hash of a text's grams, under K hash functions."""
    generator = np.random.default_rng(0)
    shape = (NUM_BANDS * BAND_ROWS, 2)
    factors = generator.integers(1, 2**63, shape, dtype=np.uint64) | np.uint64(1)
    start = 0
    while start < len(keys):
        end, characters = start, 0
        while end < len(keys) and (end == start or characters + len(keys[end]) <= CHUNK_CHARACTERS):
            characters += len(keys[end])
            end += 1
        grams, starts = _grams(keys[start:end])
        yield np.stack([np.minimum.reduceat((grams * a + b) >> np.uint64(16), starts) for a, b in factors])
        start = end


def _grams(keys: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Hashes of every gram of every key -> [G], and where each key's begin [n]."""
    letters = np.frombuffer("".join(keys).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    rolled = np.zeros(len(letters) - GRAM + 1, dtype=np.uint64)
    for place in range(GRAM):
        rolled = rolled * np.uint64(1_000_003) + letters[place : len(letters) - GRAM + 1 + place]
    rolled ^= rolled >> np.uint64(29)
    rolled *= np.uint64(0x9E3779B97F4A7C15)
    lengths = np.array([len(key) for key in keys], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    within = np.ones(len(rolled), dtype=bool)
    for place in range(1, GRAM):  # grams that reach into the next key
        late = begins[1:] - place
        within[late[late >= 0]] = False
    counts = lengths - GRAM + 1
    return rolled[within], np.concatenate([[0], np.cumsum(counts)[:-1]])


def _mix(rows: Hashes) -> Hashes:
    """[r, N] -> one number a column."""
    mixed = np.zeros(rows.shape[1], dtype=np.uint64)
    for row in rows:
        mixed = (mixed ^ row) * np.uint64(0x100000001B3)
    return mixed
