"""Short texts with an order worth learning, and token ids as a corpus; for the tests of pre-training."""

import random
from collections.abc import Sequence

import numpy as np

from training.corpus import Corpus

SUBJECTS = ["the film", "this book", "我们", "the cat", "她的朋友", "a song"]
VERBS = ["is", "was never", "喜欢", "looks", "不是", "sounds"]
OBJECTS = ["very good", "a small house", "电影", "好看的书", "blue and green", "rather long, I think"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Short texts with an order worth learning, English and Chinese."""
    chance = random.Random(seed)
    parts = (SUBJECTS, VERBS, OBJECTS)
    return [
        ", ".join(" ".join(map(chance.choice, parts)) for _ in range(chance.randint(1, 3))) + "." for _ in range(count)
    ]


def corpus_of(documents: Sequence[Sequence[int]]) -> Corpus:
    ids = np.array([number for document in documents for number in document], dtype=np.uint32)
    return Corpus(ids, np.cumsum([0, *map(len, documents)]), 0, "")
