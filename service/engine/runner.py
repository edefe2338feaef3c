"""A batch of encoded texts through a model. Runs on the engine's device thread only; knows nothing of HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from model.batch import pad
from model.explain.attention import raw_attention
from model.heads import TextModel
from model.tokenizer import Encoding, Tokenizer

Operation = Literal["classify", "embed"]
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to serve, with what its routes need to know."""

    id: str
    model: TextModel
    tokenizer: Tokenizer
    dtype: str

    @property
    def labels(self) -> tuple[str, ...]:
        return self.model.config.labels


def run(loaded: LoadedModel, operation: Operation, encodings: Sequence[Encoding]) -> Array:
    """classify -> probabilities [B, C], rows sum to 1; embed -> unit vectors [B, D]."""
    device = next(loaded.model.parameters()).device
    with torch.inference_mode():
        batch = pad(encodings, loaded.model.config.pad_id).to(device)
        if operation == "classify":
            result = torch.softmax(loaded.model.classify(batch), dim=-1)
        else:
            result = loaded.model.embed(batch)
    array: Array = result.float().cpu().numpy()
    return array


def attend(loaded: LoadedModel, encoding: Encoding) -> Array:
    """Attention probabilities [L, H, T, T] of one text."""
    array: Array = raw_attention(loaded.model, encoding).numpy()
    return array
