"""A batch of encoded texts through a model. Runs on the engine's device thread only; knows nothing of HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import pad
from model.config import TransformerConfig
from model.explain.attention import raw_attention
from model.heads import TextModel, pool
from model.lora import AdapterBank
from model.tokenizer import Encoding, Tokenizer

Operation = Literal["classify", "embed", "tag", "fill_mask"]
Array = npt.NDArray[np.float32]
MAX_CANDIDATES = 100  # for one mask


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to serve, with what its routes need to know. Adapters over one base share its `bank`."""

    id: str
    tag: str  # BentoML's: an id may pass to other content, a tag never does
    config: TransformerConfig
    bank: AdapterBank
    tokenizer: Tokenizer
    dtype: str
    base_tag: str  # whose rows can share a batch with this model's; its own tag when it has no adapter
    slot: int = 0  # of the adapter in the bank; 0 is the base itself

    @property
    def model(self) -> TextModel:
        return self.bank.base

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.labels

    def classify_pooled(self, vectors: Tensor) -> Tensor:
        return self.bank.heads[self.slot](vectors) if self.slot else self.model.classify_pooled(vectors)

    def tag_hidden(self, hidden: Tensor) -> Tensor:
        return self.bank.heads[self.slot](hidden.float()) if self.slot else self.model.tag_hidden(hidden)


@dataclass(frozen=True)
class Candidates:
    """What may stand at the masks of one text: M masks, the likeliest K tokens of each."""

    ids: npt.NDArray[np.int64]  # [M, K]
    probabilities: Array  # [M, K]


def run(models: Sequence[LoadedModel], operation: Operation, encodings: Sequence[Encoding]) -> list[Any]:
    """One result a text, of one base and any mix of adapters over it.

    classify -> probabilities [C] (for regression the number itself); embed -> unit vector [D]; tag -> probabilities
    [T, C] of each token; fill_mask -> Candidates.
    """
    base = models[0]
    with torch.inference_mode(), base.bank.route([loaded.slot for loaded in models]):
        batch = pad(encodings, base.config.pad_id).to(base.bank.device)
        hidden = base.model.body(batch)  # [B, T, D]
        results: list[Any] = [None] * len(encodings)
        groups = _by_model(models)
        for loaded, rows in groups:
            lengths = [len(encodings[row].ids) for row in rows]
            chosen = slice(None) if len(groups) == 1 else rows
            answers = OPERATIONS[operation](loaded, hidden[chosen], batch.real[chosen], batch.ids[chosen], lengths)
            for row, answer in zip(rows, answers, strict=True):
                results[row] = answer
    return results


def _by_model(models: Sequence[LoadedModel]) -> list[tuple[LoadedModel, list[int]]]:
    """Each distinct model with the rows that are for it."""
    rows: dict[str, tuple[LoadedModel, list[int]]] = {}
    for row, loaded in enumerate(models):
        rows.setdefault(loaded.tag, (loaded, []))[1].append(row)
    return list(rows.values())


def _classify(loaded: LoadedModel, hidden: Tensor, real: Tensor, ids: Tensor, lengths: list[int]) -> list[Array]:
    logits = loaded.classify_pooled(pool(hidden, real, loaded.config.pooling))  # [B, C]
    if loaded.config.task == "classification":
        logits = torch.softmax(logits, dim=-1)
    elif loaded.config.task == "multi_label":
        logits = torch.sigmoid(logits)
    return list(logits.cpu().numpy())


def _embed(loaded: LoadedModel, hidden: Tensor, real: Tensor, ids: Tensor, lengths: list[int]) -> list[Array]:
    return list(F.normalize(pool(hidden, real, loaded.config.pooling), dim=-1).cpu().numpy())


def _tag(loaded: LoadedModel, hidden: Tensor, real: Tensor, ids: Tensor, lengths: list[int]) -> list[Array]:
    probabilities = torch.softmax(loaded.tag_hidden(hidden), dim=-1).cpu().numpy()  # [B, T, C]
    return [row[:length] for row, length in zip(probabilities, lengths, strict=True)]


def _fill_mask(loaded: LoadedModel, hidden: Tensor, real: Tensor, ids: Tensor, lengths: list[int]) -> list[Candidates]:
    mask_token = loaded.tokenizer.mask_token
    assert mask_token is not None
    masked = (ids == loaded.tokenizer.id_of(mask_token)) & real  # [B, T]
    probabilities = torch.softmax(loaded.model.vocabulary_logits(hidden[masked]).float(), dim=-1)  # [M, V]
    best = probabilities.topk(min(MAX_CANDIDATES, probabilities.size(1)))
    ends = masked.sum(dim=1).cumsum(dim=0).tolist()
    found, scores = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return [Candidates(found[start:end], scores[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


OPERATIONS: dict[Operation, Callable[..., list[Any]]] = {
    "classify": _classify,
    "embed": _embed,
    "tag": _tag,
    "fill_mask": _fill_mask,
}


def attend(loaded: LoadedModel, encoding: Encoding) -> Array:
    """Attention probabilities [L, H, T, T] of one text."""
    with loaded.bank.route([loaded.slot]):
        array: Array = raw_attention(loaded.model, encoding).numpy()
    return array
