"""One frozen description of a Transformer's shape, validated once and stored as JSON beside its weights.

Every module of `model` is built from it; `huggingface.py` makes one from a Hugging Face `config.json`.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from model.files import read_json

Architecture = Literal["encoder", "decoder", "encoder_decoder"]
Activation = Literal["relu", "gelu", "gelu_tanh"]  # gelu_tanh is GPT-2's approximation of GELU
PositionKind = Literal["learned", "sinusoidal"]
Pooling = Literal["mean", "first", "last"]
Pooler = Literal["none", "tanh", "relu"]
Task = Literal[
    "embeddings", "classification", "multi_label", "regression", "tagging", "masked_lm", "causal_lm", "seq2seq"
]
LABELLED_TASKS: tuple[Task, ...] = ("classification", "multi_label", "tagging")
TASKS_OF: dict[Architecture, tuple[Task, ...]] = {
    "encoder": ("embeddings", "classification", "multi_label", "regression", "tagging", "masked_lm"),
    "decoder": ("embeddings", "classification", "multi_label", "regression", "tagging", "causal_lm"),
    "encoder_decoder": ("seq2seq",),
}

LARGEST = {  # far beyond any model of this kind; a file that says more is damaged
    "vocab_size": 2**24, "width": 2**16, "num_layers": 2**9, "num_heads": 2**10, "feed_forward_width": 2**20,
    "max_positions": 2**20, "position_offset": 2**10, "num_segments": 2**10,
}  # fmt: skip


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a Transformer and the head on it. Sizes are counts, never bytes.

    Raises ValueError naming the value, the limit and the remedy when fields contradict each other.
    """

    vocab_size: int
    architecture: Architecture = "encoder"
    width: int = 512  # D, d_model in the paper
    num_layers: int = 6  # an encoder-decoder has as many in each of its two stacks
    num_heads: int = 8
    feed_forward_width: int = 2048  # d_ff in the paper
    max_positions: int = 512  # longest input in tokens, special tokens included
    position_offset: int = 0  # unused rows at the start of the position table; RoBERTa has 2
    num_segments: int = 0  # BERT's token types; 0 leaves the segment embedding out
    positions: PositionKind = "learned"
    activation: Activation = "gelu"
    norm_first: bool = False  # pre-LN (GPT-2), with one more LayerNorm after the last layer; else post-LN (the paper)
    norm_epsilon: float = 1e-5
    norm_embeddings: bool = False  # BERT normalises the sum of embeddings, the original paper does not
    scale_embeddings: bool = False  # the original paper multiplies token embeddings by sqrt(D)
    tied_embeddings: bool = True  # the output matrix of a language model is its token embedding
    dropout: float = 0.1
    pad_id: int = 0
    bos_id: int | None = None  # starts a generated text
    eos_id: int | None = None  # ends a generated text
    task: Task = "embeddings"
    labels: tuple[str, ...] = ()  # classes of a classifier or tagger
    pooling: Pooling = "mean"  # how token vectors become one text vector
    pooler: Pooler = "none"  # a dense layer with this activation between the text vector and the classifier

    def __post_init__(self) -> None:
        self._check_types()
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
        for name in ("pad_id", "bos_id", "eos_id"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < self.vocab_size:
                raise ValueError(f"{name} {value} is outside the vocabulary of {self.vocab_size}")
        choices = {"architecture": Architecture, "activation": Activation, "positions": PositionKind}
        for name, allowed in (choices | {"pooling": Pooling, "pooler": Pooler, "task": Task}).items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is {getattr(self, name)!r}; use one of {list(get_args(allowed))}")
        if self.task not in TASKS_OF[self.architecture]:
            raise ValueError(
                f"task {self.task!r} does not go with architecture {self.architecture!r}; "
                f"use one of {list(TASKS_OF[self.architecture])}"
            )
        if self.architecture == "encoder_decoder" and (self.bos_id is None or self.eos_id is None):
            raise ValueError("an encoder-decoder needs bos_id and eos_id: they start and end what it writes")
        self._check_labels()

    def _check_types(self) -> None:
        """A file may hold anything; what is built by it must be a size that can be built."""
        for name, largest in LARGEST.items():
            value = getattr(self, name)
            if type(value) is not int or value > largest:
                raise ValueError(f"{name} is {value!r:.40}; it must be a whole number of at most {largest}")
        for name in ("norm_first", "norm_embeddings", "scale_embeddings", "tied_embeddings"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is {getattr(self, name)!r:.40}; it must be true or false")
        for name in ("pad_id", "bos_id", "eos_id"):
            value = getattr(self, name)
            if type(value) is not int and (value is not None or name == "pad_id"):
                raise ValueError(f"{name} is {value!r:.40}; it must be the number of a token")
        for name in ("norm_epsilon", "dropout"):
            if type(getattr(self, name)) not in (int, float):
                raise ValueError(f"{name} is {getattr(self, name)!r:.40}; it must be a number")
        if not 0.0 <= self.norm_epsilon < math.inf:
            raise ValueError(f"norm_epsilon is {self.norm_epsilon}; it must be a number of at least 0")

    def _check_labels(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are {list(self.labels)}; each may stand there once")
        if self.task in LABELLED_TASKS and len(self.labels) < (1 if self.task == "multi_label" else 2):
            raise ValueError(f"labels are {list(self.labels)}; task {self.task!r} needs at least two different labels")
        if self.task not in LABELLED_TASKS and self.labels:
            raise ValueError(f"task {self.task!r} has no labels, but {len(self.labels)} are given; leave them out")

    @property
    def head_width(self) -> int:
        """K, the width of one attention head."""
        return self.width // self.num_heads

    @property
    def num_outputs(self) -> int:
        """C, the numbers a classifier, tagger or regressor gives for one text or token; 0 for other tasks."""
        return 1 if self.task == "regression" else len(self.labels)

    @property
    def classifier_bias(self) -> bool:
        """GPT-2's text classifier, which pools the last token, has no bias; all others have one."""
        return self.pooling != "last" or self.task == "tagging"

    def with_task(
        self, task: Task, labels: tuple[str, ...] = (), pooling: Pooling | None = None, pooler: Pooler | None = None
    ) -> "TransformerConfig":
        """The same body under another head; pooling and pooler stay as they are when not named."""
        pooling, pooler = pooling or self.pooling, pooler or self.pooler
        return dataclasses.replace(self, task=task, labels=labels, pooling=pooling, pooler=pooler)

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "TransformerConfig":
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(fields.keys() - known):
            raise ValueError(f"unknown config fields {unknown}; this version knows {sorted(known)}")
        if "task" not in fields:  # written before there were other tasks
            fields = {**fields, "task": "classification" if fields.get("labels") else "embeddings"}
        labels = fields.get("labels", [])
        if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"labels are {labels!r:.80}; they must be a list of texts")
        if "vocab_size" not in fields:
            raise ValueError("the config has no vocab_size")
        return cls(**{**fields, "labels": tuple(labels)})

    @classmethod
    def load(cls, path: Path) -> "TransformerConfig":
        return cls.from_dict(read_json(path))


# Named after what they are; a test holds each one's parameter count to the reference implementation's.
PRESETS: dict[str, TransformerConfig] = {
    # Vaswani et al. 2017, table 3, "base": 37,000 shared word pieces, all three embeddings tied.
    "transformer-base": TransformerConfig(
        vocab_size=37_000, architecture="encoder_decoder", task="seq2seq", positions="sinusoidal", activation="relu",
        scale_embeddings=True, bos_id=1, eos_id=2,
    ),
    # Devlin et al. 2019, BERT-base uncased.
    "bert-base": TransformerConfig(
        vocab_size=30_522, width=768, num_layers=12, num_heads=12, feed_forward_width=3072, num_segments=2,
        norm_epsilon=1e-12, norm_embeddings=True, task="masked_lm",
    ),
    # Wang et al. 2020, MiniLM; the six-layer form of Reimers' sentence encoders.
    "minilm-l6": TransformerConfig(
        vocab_size=30_522, width=384, num_layers=6, num_heads=12, feed_forward_width=1536, num_segments=2,
        norm_epsilon=1e-12, norm_embeddings=True, pooler="tanh",
    ),
    # Radford et al. 2019, the smallest GPT-2.
    "gpt2-small": TransformerConfig(
        vocab_size=50_257, architecture="decoder", width=768, num_layers=12, num_heads=12, feed_forward_width=3072,
        max_positions=1024, activation="gelu_tanh", norm_first=True, bos_id=50_256, eos_id=50_256, task="causal_lm",
    ),
    # Small enough to print every number of.
    "tiny": TransformerConfig(
        vocab_size=64, width=16, num_layers=2, num_heads=2, feed_forward_width=32, max_positions=32, dropout=0.0,
        task="masked_lm",
    ),
}  # fmt: skip
