"""What a diagram consists of. Made by `walk.py`, drawn by `mermaid.py` and `svg.py`, which know no torch.

Shape letters: B batch, T tokens, S tokens attended to (the source of an encoder-decoder), D width, H heads,
K head width, F feed-forward width, V vocabulary, C classes.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "input", "embedding", "add", "norm", "add_norm", "attention", "cross_attention", "feed_forward", "pool",
    "linear", "output", "other",
]  # fmt: skip
EdgeKind = Literal["flow", "residual", "memory", "idle"]  # memory: encoder to cross-attention; idle: unused so far


@dataclass(frozen=True)
class Dim:
    """One axis: its letter and, where the module fixes it, its size."""

    letter: str
    size: int | None = None

    def __str__(self) -> str:
        return self.letter if self.size is None else f"{self.letter} {self.size:,}"


Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Block:
    """One box. Parameters and FLOPs are those of one of the repeated layers, not of all."""

    name: str
    kind: Kind
    input: Shape
    output: Shape
    detail: str = ""
    parameters: int = 0  # a tied weight counts in the first block that holds it
    flops: int = 0  # of one token in a forward pass at full length; of one text when `per_text`
    per_text: bool = False
    idle: bool = False  # holds weights, but the task does not use them: no FLOPs
    id: str = ""


@dataclass(frozen=True)
class Edge:
    source: str  # ids of blocks
    target: str
    kind: EdgeKind = "flow"


@dataclass(frozen=True)
class Section:
    """Rows of blocks from input to output; blocks of one row stand side by side. Equal layers are one section."""

    name: str
    rows: tuple[tuple[Block, ...], ...]
    repeat: int = 1
    is_layer: bool = False


@dataclass(frozen=True)
class Column:
    """A stack with what is below and above it."""

    name: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Letter:
    """One line of the legend."""

    letter: str
    meaning: str
    sizes: tuple[int, ...]  # several where layers differ, none for the batch


@dataclass(frozen=True)
class Diagram:
    """All that a renderer needs."""

    name: str
    summary: str
    columns: tuple[Column, ...]  # one, or encoder and decoder
    edges: tuple[Edge, ...]
    letters: tuple[Letter, ...]
    parameters: int
    context: int  # longest input in tokens

    @property
    def sections(self) -> tuple[Section, ...]:
        return tuple(section for column in self.columns for section in column.sections)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(block for section in self.sections for row in section.rows for block in row)

    @property
    def flops_per_token(self) -> int:
        """Of the forward pass; of an encoder-decoder for one source and one target token."""
        return self._flops(per_text=False)

    @property
    def flops_per_text(self) -> int:
        """What a head over text vectors adds once a text."""
        return self._flops(per_text=True)

    def _flops(self, per_text: bool) -> int:
        return sum(
            section.repeat * block.flops
            for section in self.sections
            for row in section.rows
            for block in row
            if block.per_text == per_text
        )
