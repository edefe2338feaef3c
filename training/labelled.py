"""Checked rows as the model reads them, with what is to be learned of each. Called by `finetune.py` and the report."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from model.tags import tag_inside
from model.tokenizer import CHUNK_TEXTS, Encoding, Tokenizer
from training.data import Examples, join_words

Target = TypeVar("Target")
NOT_LEARNED = -100  # a token without a tag; PyTorch's cross-entropy leaves it out


@dataclass(frozen=True)
class Rows(Generic[Target]):
    """Encoded rows and what is to be learned of each, index by index."""

    encodings: Sequence[Encoding]
    targets: Sequence[Target]


@dataclass(frozen=True)
class TagTargets:
    """What one tagging row teaches, and where it is asked."""

    tags: tuple[int, ...]  # of each token; NOT_LEARNED where serving reads none
    places: tuple[int, ...]  # the token that stands for each word; -1 for a word that was cut off
    words: tuple[int, ...]  # the tag of each word


def encode_classes(examples: Examples, tokenizer: Tokenizer, labels: Sequence[str], max_length: int) -> Rows[int]:
    """Labels as class numbers."""
    number = {label: index for index, label in enumerate(labels)}
    return Rows(tokenizer.encode_ids(examples.inputs, max_length), [number[label] for label in examples.labels])


def encode_label_sets(
    examples: Examples, tokenizer: Tokenizer, labels: Sequence[str], max_length: int
) -> Rows[tuple[float, ...]]:
    """Sets of labels as one 0 or 1 a label."""
    targets = [tuple(float(label in own) for label in labels) for own in map(set, examples.label_sets)]
    return Rows(tokenizer.encode_ids(examples.inputs, max_length), targets)


def encode_scores(examples: Examples, tokenizer: Tokenizer, max_length: int) -> Rows[float]:
    """Scores as they are; `Regress` standardises them."""
    return Rows(tokenizer.encode_ids(examples.inputs, max_length), list(examples.rows["score"][:]))


def encode_tags(examples: Examples, tokenizer: Tokenizer, labels: Sequence[str], max_length: int) -> Rows[TagTargets]:
    """Words joined to running text, as /v1/tag will be asked about, each token with the tag of its word."""
    number = {label: index for index, label in enumerate(labels)}
    bare: list[Encoding] = []
    targets: list[TagTargets] = []
    for start in range(0, len(examples.rows), CHUNK_TEXTS):
        own = slice(start, start + CHUNK_TEXTS)
        rows = examples.rows[own]
        encodings = tokenizer.encode(examples.inputs[own], max_length)
        for encoding, words, tags in zip(encodings, rows["tokens"], rows["tags"], strict=True):
            targets.append(align_tags(encoding, words, tags, number))
            bare.append(encoding.bare())
    return Rows(bare, targets)


def align_tags(encoding: Encoding, words: Sequence[str], tags: Sequence[str], number: dict[str, int]) -> TagTargets:
    """Tags of words -> tags of tokens.

    A token learns when it begins a word as the tokenizer splits text, for those are the tokens /v1/tag reads: within
    a Chinese word that is every character. Those after the word's first learn what goes on with the word's span:
    I-X where the word has B-X. A word is judged by the token that /v1/tag reads for its first character, or for the
    first one that has a token.
    """
    text, starts = join_words(words)
    learned = [NOT_LEARNED] * len(encoding.ids)
    places = [-1] * len(words)
    word_before, read = -1, -1
    for index, (start, end) in enumerate(encoding.offsets):
        if encoding.special[index]:
            continue
        begins = encoding.words[index] != word_before
        if begins:
            word_before, read = encoding.words[index], index
        # A byte-level token may begin with the space before its word, or be nothing else: then it covers that space or,
        # as RoBERTa has it, no character at all.
        while start < end and text[start].isspace():
            start += 1
        word = bisect_right(starts, start) - 1
        for covered in range(word, bisect_left(starts, max(end, start + 1))):
            if places[covered] < 0:
                places[covered] = read
        if begins:
            tag = tags[word] if places[word] == index else tag_inside(tags[word], number)
            learned[index] = number[tag]
    return TagTargets(tuple(learned), tuple(places), tuple(number[tag] for tag in tags))
