"""`/v1/attention`: what each token looks at, as JSON, PNG, SVG or bytes by the Accept header."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request, Response

from model.explain.attention import AttentionMethod
from model.explain.two_texts import DecoderPart, begun
from model.explain.units import Merge, Special, Unit, merged, removed_mass, renormalised, units_of
from model.tokenizer import Encoding
from service.attention_format import MEDIA_TYPE, attention_bytes
from service.context import CallerOf, Parts, PartsOf
from service.engine.reading import Text
from service.engine.runner import LoadedModel
from service.errors import InvalidRequest
from service.keys import Caller
from service.pictures.heatmap import Picture
from service.pictures.views import FOCUS, VIEWS, View, check_rows, check_view, view_png, view_svg
from service.routes.inference import as_list, encode, parts_of, usage
from service.schemas.explain import (
    DECODERS,
    MERGES,
    METHODS,
    NUMBERS,
    SPECIALS,
    AttentionHeader,
    AttentionList,
    AttentionRequest,
    AttentionResponse,
    AttentionUnit,
)

router = APIRouter(prefix="/v1", tags=["explain"])
UNKNOWN_TOKEN = "[UNK]"
JSON = "application/json"
MEANINGS = {"raw": "attention weight", "rollout": "attention rollout", "value_norm": "length of the weighted vector"}
MAX_JSON_NUMBERS = 2_400_000  # 12 layers of 12 heads at 128 tokens
MAX_NUMBERS = 40_000_000  # of any other form: 12 layers of 12 heads at 512 tokens
ANSWER = AttentionResponse | AttentionList
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/png": {}, "image/svg+xml": {}, MEDIA_TYPE: {}},
        "description": "JSON; by Accept a picture, or the binary form of docs/attention-format.md",
    }
}


@router.post("/attention", response_model=ANSWER, responses=RESPONSES)
async def attention(body: AttentionRequest, request: Request, parts: PartsOf, caller: CallerOf) -> Response:
    """Attention [layers, heads, units, units] of a text, or of each of several."""
    return await _attention(body, request, parts, caller)


@router.get("/attention", response_model=ANSWER, responses=RESPONSES)
async def attention_by_link(
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
    model: str,
    input: Annotated[str, Query(max_length=20_000)],
    layers: Annotated[str, Query(description=NUMBERS)] = "all",
    heads: Annotated[str, Query(description=NUMBERS)] = "all",
    method: Annotated[AttentionMethod, Query(description=METHODS)] = "raw",
    special: Annotated[Special, Query(description=SPECIALS)] = "keep",
    merge: Annotated[Merge, Query(description=MERGES)] = "token",
    decoder: Annotated[DecoderPart, Query(description=DECODERS)] = "cross",
    view: Annotated[View, Query(description=VIEWS)] = "heatmap",
    focus: Annotated[int | None, Query(ge=0, description=FOCUS)] = None,
    truncate: bool = False,
) -> Response:
    """The same of one text by a link, for an image tag or a bookmark."""
    body = AttentionRequest(
        model=model,
        input=input,
        layers=layers,
        heads=heads,
        method=method,
        special=special,
        merge=merge,
        decoder=decoder,
        view=view,
        focus=focus,
        truncate=truncate,
    )
    return await _attention(body, request, parts, caller)


async def _attention(body: AttentionRequest, request: Request, parts: Parts, caller: Caller) -> Response:
    loaded = await parts.model(body.model, caller.owner)
    two_texts = loaded.config.architecture == "encoder_decoder"
    if two_texts and body.method != "raw":
        raise InvalidRequest(f"method is {body.method!r}; an encoder-decoder has raw attention alone", "method")
    layers, heads = _chosen(body, loaded)
    accept = request.headers.get("accept", "")
    form = next((kind for kind in MAKE if kind in accept), JSON)
    check_view(body.view, body.focus, form.startswith("image/"), body.method, layers, heads)
    given, single = _texts(body)
    if form.startswith("image/") and len(given) > 1:
        raise InvalidRequest(f"input has {len(given)} texts, and a picture shows one; ask for each by itself", "input")
    limit = min(parts.settings.max_attention_tokens, loaded.config.max_positions)
    encodings = await encode(parts, loaded, given, body.truncate, limit, loaded.config.task == "masked_lm")
    if two_texts:
        encodings = [_begun(loaded, encoding, index) for index, encoding in enumerate(encodings)]
    units = [
        _units(body, encoding, text, index) for index, (encoding, text) in enumerate(zip(encodings, given, strict=True))
    ]
    if form.startswith("image/"):
        check_rows(body.view, body.focus, len(units[0]))
    _check_size([len(own) for own in units], len(layers) * len(heads), form)
    answers = []
    for index, (text, encoding, own) in enumerate(zip(given, encodings, units, strict=True)):
        weights = await parts.engine.attention(loaded, encoding, body.method, layers, heads, body.decoder)
        seen = _Seen(body, index, parts_of(text), encoding, own, layers, heads, weights)
        answers.append(await asyncio.to_thread(MAKE[form], seen))
    if form != JSON:
        return _response(b"".join(answers), form)
    if single:
        return _response(answers[0], form)
    head = json.dumps({"object": "list", "model": body.model, "usage": usage(encodings).model_dump()}).encode()
    return _response(head[:-1] + b',"data":[' + b",".join(answers) + b"]}", form)


def _response(content: bytes, form: str) -> Response:
    return Response(content, media_type=form, headers={"vary": "accept"})


@dataclass(frozen=True)
class _Seen:
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

    def header(self) -> dict[str, Any]:
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
        ).model_dump()

    def picture(self) -> Picture:
        body, weights = self.body, self.reduced()
        sums = "each row sums to 1" if self.rows_sum_to_one else "rows do not sum to 1"
        note = f"row: the {body.merge} that looks · column: the {body.merge} it looks at · {sums}"
        bounded = body.method != "value_norm" or body.special == "renormalise"
        top = 1.0 if bounded else float(weights.max()) or 1.0
        title = body.model if body.method == "raw" else f"{body.model} · {body.method}"
        labels = _labels(self.units, self.encoding, self.texts)
        return Picture(weights, labels, self.layers, self.heads, title, note, MEANINGS[body.method], top)


def _json(seen: _Seen) -> bytes:
    """Row by row: one long call would hold up the event loop, in a thread as well."""
    head = json.dumps(seen.header(), ensure_ascii=False).encode()
    rounded = np.round(seen.reduced().astype(np.float64), 4)
    layers = [
        "[" + ",".join("[" + ",".join(json.dumps(row.tolist()) for row in matrix) + "]" for matrix in layer) + "]"
        for layer in rounded
    ]
    return head[:-1] + f',"weights":[{",".join(layers)}]}}'.encode()


def _binary(seen: _Seen) -> bytes:
    return attention_bytes(seen.reduced(), seen.header())


MAKE: dict[str, Callable[[_Seen], bytes]] = {
    "image/png": lambda seen: view_png(seen.body.view, seen.picture(), seen.body.focus),
    "image/svg+xml": lambda seen: view_svg(seen.body.view, seen.picture(), seen.body.focus),
    MEDIA_TYPE: _binary,
    JSON: _json,
}


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


def _check_size(rows: Sequence[int], matrices: int, form: str) -> None:
    """rows: of each text's matrices."""
    numbers = matrices * sum(count**2 for count in rows)
    if form == JSON and numbers > MAX_JSON_NUMBERS:
        raise InvalidRequest(
            f"{numbers:,} numbers exceed {MAX_JSON_NUMBERS:,} in JSON; choose fewer layers or heads, or ask for "
            f"the binary form with Accept: {MEDIA_TYPE}"
        )
    if numbers > MAX_NUMBERS:
        raise InvalidRequest(
            f"{numbers:,} numbers exceed {MAX_NUMBERS:,}; choose fewer layers or heads, a shorter text or fewer texts"
        )


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


def _chosen(body: AttentionRequest, loaded: LoadedModel) -> tuple[list[int], list[Any]]:
    layers = within(body.layers, loaded.config.num_layers, "layers")
    if body.method != "rollout":
        return layers, within(body.heads, loaded.config.num_heads, "heads")
    if body.heads != "all":
        raise InvalidRequest("heads are chosen for method rollout, which takes their mean; leave heads out", "heads")
    return layers, ["all"]


def within(wanted: list[int] | str, count: int, name: str) -> list[int]:
    """Distinct numbers below `count`, in order."""
    if wanted == "all":
        return list(range(count))
    numbers = _numbers(wanted, name) if isinstance(wanted, str) else wanted
    if not numbers:
        raise InvalidRequest(f"{name} is an empty list; name at least one or send 'all'", name)
    if outside := [number for number in numbers if not 0 <= number < count]:
        raise InvalidRequest(f"{name} {outside[0]} does not exist; this model has {name} 0 to {count - 1}", name)
    return sorted(set(numbers))


def _numbers(given: str, name: str) -> list[int]:
    """ "0-3,5" -> 0, 1, 2, 3, 5."""
    numbers: list[int] = []
    for part in given[:400].split(","):
        found = re.fullmatch(r"\s*(-?\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if found is None:
            raise InvalidRequest(f"{name} is {given[:40]!r}; send 'all' or numbers and ranges such as 0-3,5", name)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise InvalidRequest(f"{name} has the range {part[:20]!r}, whose end comes first; turn it round", name)
        numbers += range(first, last + 1)
    return numbers
