"""One text with some of its tokens taken away: what the model answers then. Used by `occlusion.py`, `faithfulness.py`.

A token is taken away by putting another in its place, so that all others keep their positions. Special tokens always
stay. Shapes: M masks, T tokens, F tokens that are not special, C classes or
the vocabulary.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from model.batch import Batch
from model.config import TransformerConfig
from model.explain.text_input import answers_to, check_text
from model.heads import TextModel
from model.tokenizer import Encoding, Tokenizer

MAX_TOKENS = 4096  # of one forward pass: variants x T


def replacement_id(tokenizer: Tokenizer, config: TransformerConfig) -> int:
    """What stands for a token that is taken away: the mask token, which a masked language model has learned to read as
    "any token"; without one the unknown token; without either (GPT-2) the padding token, read like any other."""
    if tokenizer.mask_token is not None:
        mask_id = tokenizer.id_of(tokenizer.mask_token)
        assert mask_id is not None
        return mask_id
    return config.pad_id if tokenizer.unknown_id is None else tokenizer.unknown_id


def check_replacement(config: TransformerConfig, replacement: int) -> None:
    if not 0 <= replacement < config.vocab_size:
        raise ValueError(
            f"replacement {replacement} is outside the vocabulary; choose from 0 to {config.vocab_size - 1}"
        )


def rows_at_once(tokens: int, max_tokens: int) -> int:
    """How many variants of a text of so many tokens one forward pass takes: at least one, however long the text is."""
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be at least 1")
    return max(1, max_tokens // tokens)


@dataclass(frozen=True)
class MaskedText:
    """Answers for any set of tokens taken away. Raises ValueError for a text that has only special tokens."""

    model: TextModel
    encoding: Encoding
    replacement: int
    max_tokens: int = MAX_TOKENS

    def __post_init__(self) -> None:
        check_text(self.model.config, self.encoding)
        check_replacement(self.model.config, self.replacement)
        if all(self.encoding.special):
            raise ValueError(
                f"all {len(self.encoding.ids)} tokens are special; send a text with at least one token of its own"
            )

    @cached_property
    def free(self) -> Tensor:
        """[F] int64: the places of the tokens that may be taken away."""
        return torch.tensor([place for place, special in enumerate(self.encoding.special) if not special])

    def logits(self, masks: Tensor) -> Tensor:
        """masks bool [M, T], True = taken away -> logits [M, C] on the CPU. Equal masks are evaluated once, and all in
        as few forward passes as `max_tokens` allows."""
        different, places = torch.unique(masks, dim=0, return_inverse=True)
        device = self.model.stack.embeddings.token.weight.device
        ids = torch.tensor(self.encoding.ids).where(~different, self.replacement)
        segments = torch.tensor(self.encoding.segments)
        rows = rows_at_once(len(segments), self.max_tokens)
        with torch.inference_mode():
            answers = [
                answers_to(self.model, _rows(part, segments).to(device)).cpu() for part in torch.split(ids, rows)
            ]
            return torch.cat(answers)[places]


def _rows(ids: Tensor, segments: Tensor) -> Batch:
    """ids [M, T] of one text's variants, which all have its segments [T]."""
    positions = torch.arange(ids.size(1)).expand_as(ids)
    return Batch(ids, segments.expand_as(ids), positions, torch.ones_like(ids))
