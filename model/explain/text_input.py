"""One text as a function of its token embeddings, to ask gradients of. Used by `gradient.py`, `integrated.py`
and `decomposition.py`.

The input is each token's own vector; its position, its segment and the norm of their sum belong to the function.
Shapes: B batch, R variants of the text, T tokens, D width, C classes or the vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from model.batch import Batch, pad
from model.config import TransformerConfig
from model.explain.target import Target
from model.heads import TextModel, widened
from model.tokenizer import Encoding
from model.transformer import Trace

EXPLAINED_TASKS = ("classification", "multi_label", "regression", "causal_lm")


def check_text(config: TransformerConfig, encoding: Encoding) -> None:
    """Raises ValueError for a model that does not read one text, or a text that it can't read."""
    if config.architecture == "encoder_decoder":
        raise ValueError("architecture is 'encoder_decoder'; attributions need a model of one text: encoder or decoder")
    if not 1 <= len(encoding.ids) <= config.max_positions:
        raise ValueError(
            f"the text has {len(encoding.ids)} tokens; send 1 to {config.max_positions}, or set truncate=true"
        )


def check_target(config: TransformerConfig, target: Target) -> None:
    """Raises ValueError for a target that the model's answer to a text does not hold, or that stands against itself."""
    if config.task not in EXPLAINED_TASKS:
        raise ValueError(f"task is {config.task!r}; choose a model for one of {list(EXPLAINED_TASKS)}")
    name, count = ("token", config.vocab_size) if config.task == "causal_lm" else ("label", config.num_outputs)
    for number in (target.label, target.against):
        if number is not None and not 0 <= number < count:
            raise ValueError(f"{name} {number} is not one of {count}; choose from 0 to {count - 1}")
    if target.against == target.label:
        raise ValueError(f"{name} {target.label} against itself is always 0; choose another to compare it with")


def answers_to(model: TextModel, batch: Batch) -> Tensor:
    """Logits [B, C] of texts without padding: of the labels or, of a causal language model, of the next token."""
    if model.config.task == "causal_lm":
        return widened(model.vocabulary_logits(model.body(batch)[:, -1]))
    return model.classify(batch)


def read_by_head(config: TransformerConfig) -> str:
    """Which token vectors the head reads: as the model pools them, or the last one, which says what comes next."""
    return "last" if config.task == "causal_lm" else config.pooling


@contextmanager
def gradients_on() -> Iterator[None]:
    """Autograd, even where the caller runs in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@dataclass(frozen=True)
class TextInput:
    """The function from token vectors [R, T, D] to the model's answers, for one text."""

    model: TextModel
    batch: Batch  # [1, T]

    @classmethod
    def of(cls, model: TextModel, encoding: Encoding) -> "TextInput":
        device = model.stack.embeddings.token.weight.device
        return cls(model, pad([encoding], model.config.pad_id).to(device))

    def vectors(self, ids: Tensor) -> Tensor:
        """Token ids [1, T] -> their vectors [1, T, D], float32 at least, without a past."""
        return widened(self.model.stack.embeddings.token(ids)).detach()

    def logits(self, tokens: Tensor, trace: Trace | None = None) -> Tensor:
        """tokens [R, T, D] -> logits [R, C], as `answers_to`; with a trace the probability path is taken."""
        embedded, batch = self.embedded(tokens), self._repeated(len(tokens))
        if self.model.config.task == "causal_lm":
            hidden = self.model.body.forward_embedded(embedded, batch, trace)
            return widened(self.model.vocabulary_logits(hidden[:, -1]))
        return self.model.classify_embedded(embedded, batch, trace)

    def embedded(self, tokens: Tensor) -> Tensor:
        """tokens [R, T, D] -> what the first layer reads [R, T, D]: with positions and segments, normalised."""
        embeddings = self.model.stack.embeddings
        return embeddings.around(tokens.to(embeddings.token.weight.dtype), self.batch.positions, self.batch.segments)

    def _repeated(self, rows: int) -> Batch:
        """The text `rows` times."""
        parts = (self.batch.ids, self.batch.segments, self.batch.positions, self.batch.documents)
        ids, segments, positions, documents = (part.expand(rows, -1) for part in parts)
        return Batch(ids, segments, positions, documents)
