"""What the rows and columns of an attention matrix stand for: tokens, words or characters, with or without special
tokens. Called by the attention route on weights that the engine has answered; NumPy alone.

Shapes: L layers, H heads, T tokens, U units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from model.tokenizer import Encoding

Array = npt.NDArray[np.float32]
Merge = Literal["token", "word", "character"]
Special = Literal["keep", "hide", "renormalise"]


@dataclass(frozen=True)
class Unit:
    """One row and column. A token may be shared by several units: its characters."""

    text: str
    start: int  # in characters of its text; 0 and 0 for special tokens
    end: int
    segment: int  # which text of a pair
    special: bool
    tokens: tuple[int, ...]


def units_of(encoding: Encoding, texts: Sequence[str], merge: Merge, special: Special) -> list[Unit]:
    """The units of one text or pair, in order of their first tokens. Special tokens are units of their own.

    word: as the tokenizer splits text into words, in Chinese mostly single characters; character: each character that
    a token stands for, the white space between tokens left out.
    """
    units = []
    groups: dict[tuple[int, ...], list[int]] = {}
    for token, (start, end) in enumerate(encoding.offsets):
        text, word = encoding.texts[token], encoding.words[token]
        if encoding.special[token]:
            if special == "keep":
                groups[(-1, token)] = [token]
        elif merge == "character" and end > start:
            for character in range(start, end):
                groups.setdefault((text, character), []).append(token)
        elif merge == "word" and word >= 0:
            groups.setdefault((text, word), []).append(token)
        else:
            groups[(-1, token)] = [token]
    for (_, place), tokens in groups.items():
        first = tokens[0]
        start, end = min(encoding.offsets[token][0] for token in tokens), max(encoding.offsets[t][1] for t in tokens)
        alone = merge == "token" or encoding.special[first] or end <= start
        if merge == "character" and not alone:
            start, end = place, place + 1
        text = encoding.texts[first]
        shown = encoding.tokens[first] if alone else texts[text][start:end]
        units.append(Unit(shown, start, end, text, encoding.special[first], tuple(tokens)))
    return units


def removed_mass(weights: Array, special: Sequence[bool]) -> Array:
    """weights [L, H, T, T] -> [L, H]: the share of a row that lies on special tokens, as the mean over the rows of the
    other tokens."""
    hidden = np.array(special)
    rows = weights[:, :, ~hidden]
    shares: Array = rows[..., hidden].sum(-1) / np.maximum(rows.sum(-1), np.finfo(np.float32).tiny)
    mean: Array = shares.mean(-1)
    return mean


def renormalised(weights: Array, special: Sequence[bool]) -> Array:
    """weights [L, H, T, T] -> the same with no weight on special tokens, each row divided by what is left; a row that
    has nothing left is zeros."""
    left = weights * ~np.array(special)
    divided: Array = left / np.maximum(left.sum(-1, keepdims=True), np.finfo(np.float32).tiny)
    return divided


def merged(weights: Array, units: Sequence[Unit]) -> Array:
    """weights [L, H, T, T] -> [L, H, U, U]: the columns of a unit summed, the mean of its rows taken.

    A token that several units share gives each an even part of its column, and its row to each. Rows keep their sums
    but for tokens that no unit has.
    """
    tokens = weights.shape[-1]
    membership = np.zeros((len(units), tokens), dtype=np.float32)  # [U, T]
    for index, unit in enumerate(units):
        membership[index, list(unit.tokens)] = 1.0
    shares = membership / np.maximum(membership.sum(axis=0), 1.0)  # of each token
    means = shares / shares.sum(axis=1, keepdims=True)
    if shares.shape[0] == tokens and bool((shares == np.eye(tokens)).all()):
        return weights
    answer: Array = means @ weights @ shares.T
    return answer
