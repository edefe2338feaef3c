"""A batch of encoded texts through a model. Runs on the engine's threads only (`cores.py`); knows nothing of HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import Unpadded, unpad
from model.config import TransformerConfig
from model.explain.attention import AttentionMethod, attention_by
from model.explain.two_texts import DecoderPart, two_text_attention
from model.heads import TextModel, pool_unpadded
from model.lora import AdapterBank, Span, spans_of
from model.tokenizer import Encoding, Tokenizer
from service.engine.graphs import Graphs
from service.engine.programs import Program, passes_of

Operation = Literal["classify", "embed", "tag", "fill_mask"]
Array = npt.NDArray[np.float32]
MAX_CANDIDATES = 100  # for one mask


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to serve, with what its routes need to know. Adapters over one base share its `bank`, and with it
    batches."""

    id: str
    tag: str  # BentoML's: an id may pass to other content, a tag never does
    config: TransformerConfig
    bank: AdapterBank
    tokenizer: Tokenizer
    dtype: str
    base_tag: str  # its own tag when it has no adapter
    slot: int = 0  # of the adapter in the bank; 0 is the base itself
    recorded: Graphs | Program | None = None  # the base's passes, where they can be recorded

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


class Read:
    """A batch as the body has read it, for the heads: texts are named by their place among the encodings."""

    def __init__(self, hidden: Tensor, documents: Unpadded) -> None:
        self._hidden = hidden  # [N, D]
        self._documents = documents
        self._starts = documents.starts.tolist()
        self._places = {text: place for place, text in enumerate(documents.order)}
        self._vectors: dict[str, Tensor] = {}

    def vectors(self, texts: Sequence[int], pooling: str) -> Tensor:
        """-> text vectors [B, D] in float32."""
        if pooling not in self._vectors:
            self._vectors[pooling] = pool_unpadded(self._hidden, self._documents, pooling)
        whole = self._vectors[pooling]
        return whole if len(texts) == len(whole) else whole[list(texts)]

    def tokens(self, texts: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
        """-> hidden states [N, D] and ids [N] of these texts, one after another, and how many tokens each has."""
        spans = [slice(*self._starts[place : place + 2]) for place in (self._places[text] for text in texts)]
        hidden = torch.cat([self._hidden[span] for span in spans])
        ids = torch.cat([self._documents.ids[span] for span in spans])
        return hidden, ids, [span.stop - span.start for span in spans]


def run(models: Sequence[LoadedModel], operation: Operation, encodings: Sequence[Encoding]) -> list[Any]:
    """One result a text, of one bank: a base and any mix of adapters over it.

    classify -> probabilities [C] (for regression the number itself); embed -> unit vector [D]; tag -> probabilities
    [T, C] of each token; fill_mask -> Candidates.
    """
    bank, slots = models[0].bank, [loaded.slot for loaded in models]
    assert all(loaded.bank is bank for loaded in models)  # a slot is a number in its own bank alone
    documents = unpad(encodings, slots)
    with torch.inference_mode(), bank.route(spans_of(slots, documents)):
        read = _read(models[0], slots, documents.to(bank.device), operation)
        results: list[Any] = [None] * len(encodings)
        for loaded, texts in _by_model(models):
            for text, answer in zip(texts, OPERATIONS[operation](loaded, read, texts), strict=True):
                results[text] = answer
    return results


def _read(base: LoadedModel, slots: Sequence[int], documents: Unpadded, operation: Operation) -> Read:
    """Which adapters a batch mixes is known to Python alone, and by token, so that is never recorded nor cut short."""
    body, recorded = base.model.body, None if any(slots) else base.recorded
    if _needs_first_tokens_alone(base, slots, operation):
        if isinstance(recorded, Program):
            first = recorded.read(documents, "first_tokens_unpadded")
        else:
            first = body.first_tokens_unpadded(documents)
        return Read(first, documents.first_tokens())
    hidden = body.forward_unpadded(documents) if recorded is None else recorded.read(documents)
    return Read(hidden, documents)


def _needs_first_tokens_alone(base: LoadedModel, slots: Sequence[int], operation: Operation) -> bool:
    """On a CPU, where a pass saves what it leaves out; on a GPU passes of all tokens are recorded."""
    of_texts = operation in ("classify", "embed") and not any(slots)
    return of_texts and base.bank.device.type == "cpu" and "first_tokens_unpadded" in passes_of(base.config)


def _by_model(models: Sequence[LoadedModel]) -> list[tuple[LoadedModel, list[int]]]:
    """Each distinct model with the texts that are for it."""
    texts: dict[str, tuple[LoadedModel, list[int]]] = {}
    for text, loaded in enumerate(models):
        texts.setdefault(loaded.tag, (loaded, []))[1].append(text)
    return list(texts.values())


def _classify(loaded: LoadedModel, read: Read, texts: Sequence[int]) -> list[Array]:
    logits = loaded.classify_pooled(read.vectors(texts, loaded.config.pooling))  # [B, C]
    if loaded.config.task == "classification":
        logits = torch.softmax(logits, dim=-1)
    elif loaded.config.task == "multi_label":
        logits = torch.sigmoid(logits)
    return list(logits.cpu().numpy())


def _embed(loaded: LoadedModel, read: Read, texts: Sequence[int]) -> list[Array]:
    return list(F.normalize(read.vectors(texts, loaded.config.pooling), dim=-1).cpu().numpy())


def _tag(loaded: LoadedModel, read: Read, texts: Sequence[int]) -> list[Array]:
    hidden, _, lengths = read.tokens(texts)
    probabilities = torch.softmax(loaded.tag_hidden(hidden), dim=-1)  # [N, C]
    return [part.cpu().numpy() for part in torch.split(probabilities, lengths)]


def _fill_mask(loaded: LoadedModel, read: Read, texts: Sequence[int]) -> list[Candidates]:
    mask_token = loaded.tokenizer.mask_token
    assert mask_token is not None
    mask_id = loaded.tokenizer.id_of(mask_token)
    assert mask_id is not None
    hidden, ids, lengths = read.tokens(texts)
    masked = torch.eq(ids, mask_id)  # [N]
    probabilities = torch.softmax(loaded.model.vocabulary_logits(hidden[masked]).float(), dim=-1)  # [M, V]
    best = probabilities.topk(min(MAX_CANDIDATES, probabilities.size(1)))
    counts = [int(part.sum()) for part in torch.split(masked, lengths)]
    pairs = zip(torch.split(best.indices, counts), torch.split(best.values, counts), strict=True)
    return [Candidates(found.cpu().numpy(), scores.cpu().numpy()) for found, scores in pairs]


OPERATIONS: dict[Operation, Callable[[LoadedModel, Read, Sequence[int]], list[Any]]] = {
    "classify": _classify,
    "embed": _embed,
    "tag": _tag,
    "fill_mask": _fill_mask,
}


def attend(
    loaded: LoadedModel,
    encoding: Encoding,
    method: AttentionMethod,
    layers: Sequence[int],
    heads: Sequence[int],
    part: DecoderPart,
) -> Array:
    """Attention [L, H, T, T] of one text, of these layers and heads; by rollout [L, 1, T, T]. Of an encoder-decoder, of
    the two texts that `begun` has joined."""
    if loaded.config.architecture == "encoder_decoder":
        both: Array = two_text_attention(loaded.model, encoding, part).numpy()
        return both[np.ix_(layers, heads)]
    with loaded.bank.route([Span(loaded.slot)]):
        whole: Array = attention_by(loaded.model, encoding, method).numpy()
    return whole[list(layers)] if method == "rollout" else whole[np.ix_(layers, heads)]
