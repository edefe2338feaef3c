"""The attention that a request asks for, text by text: resolved against its model, computed, reduced to units.

Used by the routes of attention and of comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.explain.two_texts import begun
from model.explain.units import Unit, merged, removed_mass, renormalised, units_of
from model.tokenizer import Encoding, Text
from service.context import Parts
from service.engine.runner import LoadedModel
from service.errors import InvalidRequest
from service.keys import Caller
from service.pictures.heatmap import Picture
from service.routes.inference import as_list, encode, parts_of
from service.routes.numbers import within
from service.schemas.attention import AttentionHeader, AttentionRequest, AttentionUnit

UNKNOWN_TOKEN = "[UNK]"
MEANINGS = {"raw": "attention weight", "rollout": "attention rollout", "value_norm": "length of the weighted vector"}
MAX_NUMBERS = 40_000_000  # 12 layers of 12 heads at 512 tokens


@dataclass(frozen=True)
class Seen:
    """One text and what was asked of it."""

    body: AttentionRequest
    index: int
    texts: tuple[str, ...]
    encoding: Encoding
    units: list[Unit]
    layers: list[int]
    heads: list[Any]  # numbers, or "all" alone
    weights: npt.NDArray[np.float32]  # [L, H, T, T] of these layers and heads

    @property
    def rows_sum_to_one(self) -> bool:
        return self.body.special == "renormalise" or (self.body.special == "keep" and self.body.method != "value_norm")

    def reduced(self) -> npt.NDArray[np.float32]:
        """[L, H, U, U]."""
        renormalise = self.body.special == "renormalise"
        weights = renormalised(self.weights, self.encoding.special) if renormalise else self.weights
        return merged(weights, self.units)

    def header(self) -> AttentionHeader:
        body, encoding = self.body, self.encoding
        keep = body.special == "keep"
        lost = np.zeros(self.weights.shape[:2]) if keep else removed_mass(self.weights, encoding.special)
        return AttentionHeader(
            index=self.index,
            model=body.model,
            method=body.method,
            special_tokens=body.special,
            merge=body.merge,
            rows_sum_to_one=self.rows_sum_to_one,
            tokens=list(encoding.tokens),
            ids=list(encoding.ids),
            offsets=list(encoding.offsets),
            special=list(encoding.special),
            units=[AttentionUnit(**(vars(unit) | {"tokens": list(unit.tokens)})) for unit in self.units],
            layers=self.layers,
            heads=self.heads,
            shape=(len(self.layers), len(self.heads), len(self.units), len(self.units)),
            removed_mass=np.round(lost.astype(np.float64), 4).tolist(),
            truncated=encoding.truncated,
        )

    def picture(self) -> Picture:
        body, weights = self.body, self.reduced()
        sums = "each row sums to 1" if self.rows_sum_to_one else "rows do not sum to 1"
        note = f"row: the {body.merge} that looks · column: the {body.merge} it looks at · {sums}"
        bounded = body.method != "value_norm" or body.special == "renormalise"
        top = 1.0 if bounded else float(weights.max()) or 1.0
        title = body.model if body.method == "raw" else f"{body.model} · {body.method}"
        labels = _labels(self.units, self.encoding, self.texts)
        return Picture(weights, labels, self.layers, self.heads, title, note, MEANINGS[body.method], top)


@dataclass(frozen=True)
class Asked:
    """A request that its model can answer."""

    body: AttentionRequest
    loaded: LoadedModel
    layers: list[int]
    heads: list[Any]  # numbers, or "all" alone
    texts: list[Text]
    single: bool  # one text and no list of one
    encodings: list[Encoding]
    units: list[list[Unit]]  # of each text

    @property
    def numbers(self) -> int:
        """Of the whole answer."""
        return len(self.layers) * len(self.heads) * sum(len(own) ** 2 for own in self.units)

    async def see(self, parts: Parts, index: int) -> Seen:
        """The text at this place. Raises Busy and TimedOut."""
        body, encoding = self.body, self.encodings[index]
        weights = await parts.engine.attention(
            self.loaded, encoding, body.method, self.layers, self.heads, body.decoder
        )  # [L, H, T, T]
        texts, units = parts_of(self.texts[index]), self.units[index]
        return Seen(body, index, texts, encoding, units, self.layers, self.heads, weights)


async def resolve(parts: Parts, caller: Caller, body: AttentionRequest) -> Asked:
    """Raises InvalidRequest and NotFound."""
    loaded = await parts.model(body.model, caller.owner)
    two_texts = loaded.config.architecture == "encoder_decoder"
    if two_texts and body.method != "raw":
        raise InvalidRequest(f"method is {body.method!r}; an encoder-decoder has raw attention alone", "method")
    layers, heads = _chosen(body, loaded)
    texts, single = _texts(body)
    limit = min(parts.settings.max_attention_tokens, loaded.config.max_positions)
    encodings = await encode(parts, loaded, texts, body.truncate, limit, loaded.config.task == "masked_lm")
    if two_texts:
        encodings = [_begun(loaded, encoding, index) for index, encoding in enumerate(encodings)]
    pairs = enumerate(zip(encodings, texts, strict=True))
    units = [_units(body, encoding, text, index) for index, (encoding, text) in pairs]
    asked = Asked(body, loaded, layers, heads, texts, single, encodings, units)
    if asked.numbers > MAX_NUMBERS:
        larger = "" if body.merge == "word" else "merge=word, "
        raise InvalidRequest(
            f"{asked.numbers:,} numbers exceed {MAX_NUMBERS:,}; choose {larger}fewer layers or heads, a shorter text "
            "or fewer texts"
        )
    return asked


def _chosen(body: AttentionRequest, loaded: LoadedModel) -> tuple[list[int], list[Any]]:
    layers = within(body.layers, loaded.config.num_layers, "layers")
    if body.method != "rollout":
        return layers, within(body.heads, loaded.config.num_heads, "heads")
    if body.heads != "all":
        raise InvalidRequest("heads are chosen for method rollout, which takes their mean; leave heads out", "heads")
    return layers, ["all"]


def _texts(body: AttentionRequest) -> tuple[list[Text], bool]:
    """The texts and pairs, and whether they were one and no list. Two strings are a pair unless `batch` says not."""
    given = body.input
    pair = isinstance(given, list) and len(given) == 2 and all(isinstance(text, str) for text in given)
    if pair and not body.batch:
        return [(str(given[0]), str(given[1]))], True
    return as_list(given), isinstance(given, str)


def _begun(loaded: LoadedModel, encoding: Encoding, index: int) -> Encoding:
    if 1 not in encoding.texts:
        raise InvalidRequest(
            f"input {index} is one text; an encoder-decoder looks from what it writes at what it reads: send the pair "
            "of them, the second as /v1/completions gives it",
            "input",
        )
    assert loaded.config.bos_id is not None
    return begun(encoding, loaded.config.bos_id, loaded.tokenizer)


def _units(body: AttentionRequest, encoding: Encoding, text: Text, index: int) -> list[Unit]:
    units = units_of(encoding, parts_of(text), body.merge, body.special)
    if not units:
        raise InvalidRequest(f"input {index} has no token but special ones; set special=keep to see those", "special")
    return units


def _labels(units: Sequence[Unit], encoding: Encoding, texts: Sequence[str]) -> list[str]:
    """Labels for a picture: a token outside the vocabulary is shown as the characters it stands for, with a *, one that
    is written as bytes as the characters that it has a part of."""
    labels = []
    for unit in units:
        text = texts[unit.segment][unit.start : unit.end]
        readable = unit.special or unit.text.isascii() or unit.text.removeprefix("##") in text
        label = unit.text if readable or not text else text
        unknown = text and UNKNOWN_TOKEN in [encoding.tokens[token] for token in unit.tokens]
        labels.append(f"{text}*" if unknown else label)
    return labels
