"""When two texts are the same: light normalisation, letters only, and long shared passages.

Used for comparison alone; the texts themselves stay as they were written. Called by the Chinese data sets, so that
no text straddles two splits under another spelling.
"""

import random
import re
import unicodedata
from collections.abc import Sequence

NOT_LETTERS = re.compile(r"[\W_]+")


def light_key(text: str) -> str:
    """NFKC with white space collapsed: texts that print the same."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def letters_key(text: str) -> str:
    """Letters and digits alone, without case: texts that differ in punctuation and white space are the same."""
    return NOT_LETTERS.sub("", unicodedata.normalize("NFKC", text).casefold())


def overlap_groups(keys: Sequence[str], passage_characters: int) -> list[list[int]]:
    """Indices of the keys, grouped so that keys which share a passage of that length stand in one group."""
    parents = list(range(len(keys)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    first_with: dict[str, int] = {}
    for index, key in enumerate(keys):
        for start in range(len(key) - passage_characters + 1):
            earlier = first_with.setdefault(key[start : start + passage_characters], index)
            if earlier != index:
                parents[root(index)] = root(earlier)
    groups: dict[int, list[int]] = {}
    for index in range(len(keys)):
        groups.setdefault(root(index), []).append(index)
    return list(groups.values())


def split_groups(groups: Sequence[list[int]], train: float, validation: float, seed: int) -> dict[str, list[int]]:
    """Whole groups, shuffled, to train, validation and test; the two shares are of the members, the rest is test."""
    shuffled = random.Random(seed).sample(groups, len(groups))
    total = sum(map(len, groups))
    splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    done = 0
    for group in shuffled:
        name = "train" if done < train * total else "validation" if done < (train + validation) * total else "test"
        splits[name] += group
        done += len(group)
    return splits
