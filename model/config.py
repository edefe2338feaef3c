"""One frozen description of a Transformer's shape, validated once and stored as JSON beside its weights.

Every module of `model` is built from it; `weights.py` makes one from a Hugging Face `config.json`.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Activation = Literal["relu", "gelu"]
PositionKind = Literal["learned", "sinusoidal"]
Task = Literal["embeddings", "classification"]


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of an encoder. Sizes are counts, never bytes.

    Raises ValueError naming the value, the limit and the remedy when fields contradict each other.
    """

    vocab_size: int
    width: int = 512  # D, d_model in the paper
    num_layers: int = 6
    num_heads: int = 8
    feed_forward_width: int = 2048  # d_ff in the paper
    max_positions: int = 512  # longest input in tokens, special tokens included
    num_segments: int = 2  # BERT's token types; 0 leaves the segment embedding out
    positions: PositionKind = "learned"
    activation: Activation = "gelu"
    norm_epsilon: float = 1e-12
    norm_embeddings: bool = True  # BERT normalises the sum of embeddings, the original paper does not
    scale_embeddings: bool = False  # the original paper multiplies token embeddings by sqrt(D)
    dropout: float = 0.1
    pad_id: int = 0
    labels: tuple[str, ...] = ()  # classes of the classification head, empty for embeddings

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "num_layers", "num_heads", "feed_forward_width", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.num_heads:
            raise ValueError(
                f"width {self.width} is not a multiple of num_heads {self.num_heads}; "
                "choose a head count that divides it"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise ValueError(
                f"width {self.width} is odd; sinusoidal positions pair sines with cosines, use an even width"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1")
        if not 0 <= self.pad_id < self.vocab_size:
            raise ValueError(f"pad_id {self.pad_id} is outside the vocabulary of {self.vocab_size}")
        if self.activation not in ("relu", "gelu") or self.positions not in ("learned", "sinusoidal"):
            raise ValueError(
                f"activation {self.activation!r} or positions {self.positions!r} is unknown; "
                "use 'relu' or 'gelu', and 'learned' or 'sinusoidal'"
            )
        if len(self.labels) == 1 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are {list(self.labels)}; a classifier needs at least two different labels")

    @property
    def head_width(self) -> int:
        """K, the width of one attention head."""
        return self.width // self.num_heads

    @property
    def task(self) -> Task:
        return "classification" if self.labels else "embeddings"

    def with_labels(self, labels: tuple[str, ...]) -> "TransformerConfig":
        return dataclasses.replace(self, labels=labels)

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "TransformerConfig":
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(fields.keys() - known):
            raise ValueError(f"unknown config fields {unknown}; this version knows {sorted(known)}")
        return cls(**{**fields, "labels": tuple(fields.get("labels", ()))})

    @classmethod
    def load(cls, path: Path) -> "TransformerConfig":
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
