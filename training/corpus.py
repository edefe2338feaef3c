"""Running text as token ids on disk, streamed in and mapped back, and its packing into rows. Used by `pretrain.py`.

A corpus larger than memory works: text is read and tokenized a chunk at a time, ids are mapped from a file.
"""

import hashlib
import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.batch import Batch
from model.tokenizer import Tokenizer
from training.data import LONE_SURROGATE

CHUNK_DOCUMENTS = 2_000  # tokenized together
JSON_LINES_ENDINGS = (".jsonl", ".ndjson", ".jsonlines")
NO_TEXT_ENDINGS = (".csv", ".tsv", ".json", ".parquet", ".gz", ".zip")  # a model of their lines would learn commas
POOL_PIECES = 4_000  # packed together; a larger pool pads less
Ids = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids: `ids` end to end, document i at [bounds[i], bounds[i + 1])."""

    ids: Ids
    bounds: npt.NDArray[np.int64]
    num_characters: int
    sha256: str  # of the texts

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def document(self, index: int) -> list[int]:
        return [int(number) for number in self.ids[self.bounds[index] : self.bounds[index + 1]]]

    @property
    def num_tokens(self) -> int:
        return len(self.ids)

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return int(np.diff(self.bounds).max())


def build_corpus(texts: Iterable[str], tokenizer: Tokenizer, folder: Path) -> Corpus:
    """Tokenizes texts (without special tokens) into `folder`; empty ones are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    bounds, characters = [0], 0
    iterator = iter(texts)
    temporary = folder / ".ids.tmp"
    with open(temporary, "wb") as file:
        while chunk := list(islice(iterator, CHUNK_DOCUMENTS)):
            kept = [text for text in chunk if text.strip()]
            for text, encoding in zip(kept, tokenizer.encode(kept, 2**30, special_tokens=False), strict=True):
                digest.update(text.encode() + b"\0")
                characters += len(text)
                np.array(encoding.ids, dtype=np.uint32).tofile(file)
                bounds.append(bounds[-1] + len(encoding.ids))
    if len(bounds) == 1:
        raise ValueError("the corpus has no text; every document is empty")
    os.replace(temporary, folder / "ids.bin")
    np.save(folder / "bounds.npy", np.array(bounds, dtype=np.int64))
    facts = {"num_characters": characters, "sha256": digest.hexdigest()}
    (folder / "corpus.json").write_text(json.dumps(facts), encoding="utf-8")
    return open_corpus(folder)


def open_corpus(folder: Path) -> Corpus:
    facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    ids = np.memmap(folder / "ids.bin", dtype=np.uint32, mode="r")
    return Corpus(ids, np.load(folder / "bounds.npy"), facts["num_characters"], facts["sha256"])


@dataclass(frozen=True)
class Documents:
    """The documents of a file, streamed anew each time they are gone through."""

    path: Path

    def __iter__(self) -> Iterator[str]:
        return read_documents(self.path)


def read_documents(path: Path) -> Iterator[str]:
    """Streams the documents of a file: the "text" of each line of JSON by its name, else one a line. Raises ValueError
    for a file whose lines are no documents, by its name or its bytes."""
    ending = path.suffix.lower()
    if ending in NO_TEXT_ENDINGS:
        raise ValueError(f"{path.name} has no document a line; write .txt with one a line, or .jsonl with 'text'")
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                reason = f"byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8"
                raise ValueError(f"{path.name}, line {number}: {reason}") from None
            if "\0" in line:
                raise ValueError(f"{path.name}, line {number}: has NUL characters; save the file as UTF-8")
            if ending not in JSON_LINES_ENDINGS:
                yield line.strip()
                continue
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (json.JSONDecodeError, KeyError, TypeError, RecursionError):
                raise ValueError(f'{path.name}, line {number}: not an object with "text"; write one a line') from None
            if not isinstance(text, str):
                raise ValueError(f"{path.name}, line {number}: 'text' is a {type(text).__name__}; it must be a string")
            if LONE_SURROGATE.search(text):
                reason = "'text' has half of a surrogate pair, which is no character; remove it"
                raise ValueError(f"{path.name}, line {number}: {reason}")
            yield text


@dataclass(frozen=True)
class Piece:
    """Part of a document that fits a row: ids [start, end) of the corpus."""

    start: int
    end: int
    offset: int  # of its positions: where in its document it stands
    first: bool  # starts its document
    last: bool  # ends it


class PackedRows:
    """A corpus cut into pieces and packed into rows of `row_tokens`, once; the order of rows is the trainer's affair.

    Each piece is wrapped in `prefix` and `suffix` tokens: [CLS] and [SEP] of a masked model around every piece;
    <|endoftext|> of a causal one before a document's first piece and after its last, while a later piece starts
    with the last token of the one before it.

    A later piece keeps the positions it has in its document, so that short rows, which learn faster, teach a model all
    of its `max_positions` (shifted positions: Kiyono et al. 2021); where a document goes beyond them, it begins anew.
    """

    def __init__(
        self,
        corpus: Corpus,
        row_tokens: int,
        prefix: int,
        suffix: int,
        pad_id: int,
        causal: bool,
        max_positions: int | None = None,  # of the model, at least `row_tokens`; None: as many
    ) -> None:
        self.row_tokens = row_tokens
        self._max_positions = max_positions or row_tokens
        self.num_documents = len(corpus)
        self._corpus = corpus
        self._prefix, self._suffix, self._pad_id, self._causal = prefix, suffix, pad_id, causal
        self._pieces = self._cut()
        self._rows = pack_pieces([piece.end - piece.start + 2 for piece in self._pieces], row_tokens)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def padding_share(self) -> float:
        used = sum(len(self._ids(piece)) for piece in self._pieces)
        return 1.0 - used / (len(self._rows) * self.row_tokens)

    def _cut(self) -> list[Piece]:
        room = self.row_tokens - 2
        offsets = 1 + -(-(self._max_positions - self.row_tokens) // room)  # until the positions end
        pieces = []
        for start, end in zip(self._corpus.bounds[:-1].tolist(), self._corpus.bounds[1:].tolist(), strict=True):
            for number, first in enumerate(range(start, end, room)):
                last = min(first + room, end)
                offset = min(number % offsets * room, self._max_positions - (last - first + 2))
                pieces.append(Piece(first, last, offset, first == start, last == end))
        return pieces

    def _ids(self, piece: Piece) -> list[int]:
        ids = [int(number) for number in self._corpus.ids[piece.start : piece.end]]
        if not self._causal:
            return [self._prefix, *ids, self._suffix]
        before = self._prefix if piece.first else int(self._corpus.ids[piece.start - 1])
        return [before, *ids, self._suffix] if piece.last else [before, *ids]

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows as one packed batch [B, row_tokens]."""
        shape = (len(rows), self.row_tokens)
        ids = torch.full(shape, self._pad_id, dtype=torch.int64)
        positions, documents = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        for row, index in enumerate(rows):
            end = 0
            for number, piece in enumerate(self._rows[index], start=1):
                tokens = self._ids(self._pieces[piece])
                where = slice(end, end + len(tokens))
                ids[row, where] = torch.tensor(tokens)
                positions[row, where] = torch.arange(len(tokens)) + self._pieces[piece].offset
                if not self._causal:
                    positions[row, end] = 0  # the prefix stands first in whatever is read
                documents[row, where] = number
                end += len(tokens)
        return Batch(ids, torch.zeros(shape, dtype=torch.int64), positions, documents, packed=True)


def pack_pieces(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
    """Indices of pieces grouped in rows that hold at most `row_tokens`: best fit decreasing, pool by pool.

    Every index comes back exactly once.
    """
    rows: list[list[int]] = []
    order = list(range(len(lengths)))
    random.Random(0).shuffle(order)  # neighbours in the corpus should not share a row
    for start in range(0, len(order), POOL_PIECES):
        pool = sorted(order[start : start + POOL_PIECES], key=lambda index: -lengths[index])
        open_rows: list[list[list[int]]] = [[] for _ in range(row_tokens + 1)]  # by free tokens
        for index in pool:
            length = lengths[index]
            free = next((space for space in range(length, row_tokens + 1) if open_rows[space]), None)
            if free is None:
                row: list[int] = []
                rows.append(row)
                free = row_tokens
            else:
                row = open_rows[free].pop()
            row.append(index)
            open_rows[free - length].append(row)
    return rows
