"""Gathers blocks and edges while `walk.py`, `stack.py` and `head.py` read a model."""

from dataclasses import replace

from torch import nn

from model.diagram.blocks import Block, Dim, Edge, EdgeKind, Letter, Shape
from model.diagram.measure import Counter
from model.positions import SinusoidalPositions
from model.transformer import Embeddings

MEANINGS = {
    "B": "batch", "T": "tokens, at most", "S": "attended tokens", "D": "width", "H": "heads", "K": "head width",
    "F": "feed-forward width", "V": "vocabulary", "C": "outputs",
}  # fmt: skip
Rows = list[tuple[Block, ...]]


class Builder:
    """One model's picture in the making. `tokens` is T, or S in the encoder of an encoder-decoder."""

    def __init__(self, embeddings: Embeddings, is_pair: bool) -> None:
        self.counter = Counter()
        self.edges: list[Edge] = []
        self._sizes: dict[str, list[int]] = {letter: [] for letter in MEANINGS}
        self._placed = 0
        self._is_pair = is_pair
        self.width = self.dim("D", embeddings.token.embedding_dim)
        self.vocabulary = self.dim("V", embeddings.token.num_embeddings)
        self.context = position_rows(embeddings.position) - embeddings.offset
        self.dim("T", self.context)
        self.dim("S", self.context)

    def dim(self, letter: str, size: int) -> Dim:
        """An axis with its size, which the legend then shows."""
        if size not in self._sizes[letter]:
            self._sizes[letter].append(size)
        return Dim(letter, size)

    def hidden(self, tokens: str) -> Shape:
        return Dim("B"), Dim(tokens), self.width

    def letters(self) -> tuple[Letter, ...]:
        meanings = MEANINGS | ({"T": "target tokens, at most", "S": "source tokens, at most"} if self._is_pair else {})
        used = [Letter(letter, meanings[letter], tuple(sizes)) for letter, sizes in self._sizes.items()]
        return tuple(letter for letter in used if letter.sizes or letter.letter == "B")

    def place(self, block: Block) -> Block:
        """The block with an id of its own."""
        self._placed += 1
        return replace(block, id=f"b{self._placed}")

    def join(self, source: Block, target: Block, kind: EdgeKind = "flow") -> None:
        self.edges.append(Edge(source.id, target.id, kind))

    def above(self, rows: Rows, below: Block, block: Block) -> Block:
        """Places a block in a row of its own, fed by the one below."""
        placed = self.place(block)
        rows.append((placed,))
        self.join(below, placed)
        return placed

    def beside(self, rows: Rows, row: int, below: Block, block: Block) -> None:
        """Places an idle block at the side of a row."""
        placed = self.place(block)
        rows[row] = (*rows[row], placed)
        self.join(below, placed, "idle")

    def norm(self, name: str, module: nn.Module, tokens: str) -> Block:
        shape, count = self.hidden(tokens), self.counter.take(module)
        is_shared = count == 0 and next(module.parameters(), None) is not None
        return Block(name, "norm", shape, shape, "shared" if is_shared else "", count)


def position_rows(module: nn.Module) -> int:
    """How many positions a table holds, learned or computed."""
    if isinstance(module, SinusoidalPositions):
        return module.get_buffer("table").size(0)
    return next(child.num_embeddings for child in module.modules() if isinstance(child, nn.Embedding))
