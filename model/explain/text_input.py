"""One text as a function of its token embeddings, to ask gradients of. Used by `gradient.py`, `integrated.py`
and `decomposition.py`.

The input is each token's own vector; its position, its segment and the norm of their sum belong to the function.
Shapes: R variants of the text, T tokens, D width, C classes, V vocabulary.
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

EXPLAINED_TASKS = ("classification", "multi_label", "regression")


def check_text(config: TransformerConfig, encoding: Encoding) -> None:
    """Raises ValueError for a model that does not read one text, or a text that it can't read."""
    if config.architecture == "encoder_decoder":
        raise ValueError("architecture is 'encoder_decoder'; attributions need a model of one text: encoder or decoder")
    if not 1 <= len(encoding.ids) <= config.max_positions:
        raise ValueError(
            f"the text has {len(encoding.ids)} tokens; send 1 to {config.max_positions}, or set truncate=true"
        )


def check_target(config: TransformerConfig, target: Target) -> None:
    """Raises ValueError for a target that the model's answer to a text does not hold."""
    if config.task not in EXPLAINED_TASKS:
        raise ValueError(f"task is {config.task!r}; choose a model tuned for one of {list(EXPLAINED_TASKS)}")
    check_choice("label", target, config.num_outputs)


def check_answer(config: TransformerConfig, target: Target) -> None:
    """The same, where a causal language model's next token will do too."""
    if config.task == "causal_lm":
        check_choice("token", target, config.vocab_size)
    else:
        check_target(config, target)


def check_choice(name: str, target: Target, count: int) -> None:
    """Raises ValueError when the target is not of the first `count` outputs, or stands against itself."""
    for number in (target.label, target.against):
        if number is not None and not 0 <= number < count:
            raise ValueError(f"{name} {number} is not one of {count}; choose from 0 to {count - 1}")
    if target.against == target.label:
        raise ValueError(f"{name} {target.label} against itself is always 0; choose another to compare it with")


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
        """tokens [R, T, D] -> logits [R, C] of the head; with a trace the probability path is taken."""
        return self.model.classify_embedded(self.embedded(tokens), self._repeated(len(tokens)), trace)

    def next_token_logits(self, tokens: Tensor) -> Tensor:
        """tokens [R, T, D] -> logits [R, V] of the token that follows the last one."""
        hidden = self.model.body.forward_embedded(self.embedded(tokens), self._repeated(len(tokens)))
        return widened(self.model.vocabulary_logits(hidden[:, -1]))

    def embedded(self, tokens: Tensor) -> Tensor:
        """tokens [R, T, D] -> what the first layer reads [R, T, D]: with positions and segments, normalised."""
        embeddings = self.model.stack.embeddings
        return embeddings.around(tokens.to(embeddings.token.weight.dtype), self.batch.positions, self.batch.segments)

    def _repeated(self, rows: int) -> Batch:
        """The text `rows` times."""
        parts = (self.batch.ids, self.batch.segments, self.batch.positions, self.batch.documents)
        ids, segments, positions, documents = (part.expand(rows, -1) for part in parts)
        return Batch(ids, segments, positions, documents)
