"""`/v1/classify`, `/v1/embeddings`, `/v1/tag`, `/v1/fill-mask`, `/v1/tokenize`: text in, answers out."""

import base64
import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from model.tokenizer import Encoding, Text
from service.context import CallerOf, Parts, PartsOf
from service.direct import Ask, Route
from service.engine.runner import Array, Candidates, LoadedModel, Operation
from service.engine.tags import find_tags
from service.engine.windows import Read, Texts, whole, windowed
from service.errors import InvalidRequest, TooLarge
from service.keys import Caller
from service.large import beside, json_of
from service.registry import operations_of
from service.schemas.base import Usage
from service.schemas.inference import (
    Candidate,
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    Embedding,
    EmbeddingsRequest,
    EmbeddingsResponse,
    FilledMasks,
    FillMaskRequest,
    FillMaskResponse,
    LongTextRequest,
    Mask,
    Regression,
    Score,
    Tag,
    Tagged,
    TagRequest,
    TagResponse,
    TokenizeRequest,
    TokenizeResponse,
    Tokens,
)

router = APIRouter(prefix="/v1", tags=["inference"])
Answers = Sequence[tuple[Read, Sequence[Array]]]  # each text with the rows of its windows


def _post(path: str, operation_id: str | None = None) -> Callable[[Ask], Ask]:
    """Adds a route. Its answers are written here, for the framework would write a large one in one go."""

    def add(ask: Ask) -> Ask:
        @functools.wraps(ask)
        async def answer(body: Any, parts: Parts, caller: Caller) -> Response:
            return Response(await json_of(await ask(body, parts, caller)), media_type="application/json")

        router.post(path, operation_id=operation_id)(answer)
        return ask

    return add


@_post("/classify")
async def classify(body: ClassifyRequest, parts: PartsOf, caller: CallerOf) -> ClassifyResponse:
    """Labels with scores for each text. The scores of one text sum to 1 (before top_k), but for a multi-label model,
    whose labels are independent; a regression model gives one number."""
    loaded = await parts.model(body.model, caller.owner)
    check_can(loaded, body.model, "classify", "a classifier, for instance a fine-tuned model")
    texts = await read(parts, loaded, body)
    answers = texts.own(await parts.engine.submit(loaded, "classify", texts.encodings, caller.owner))
    data = _regressions if loaded.config.task == "regression" else partial(_classifications, loaded, body.top_k)
    size = len(answers) * loaded.config.num_outputs
    return await beside(
        size, lambda: ClassifyResponse(model=body.model, data=data(answers), usage=usage(texts.encodings))
    )


def _regressions(answers: Answers) -> list[Regression]:
    return [
        Regression(index=index, score=float(text.mean(rows)[0]), **_length(text))
        for index, (text, rows) in enumerate(answers)
    ]


def _classifications(loaded: LoadedModel, top_k: int | None, answers: Answers) -> list[Classification]:
    data = []
    for index, (text, rows) in enumerate(answers):
        row = text.mean(rows)
        order = np.argsort(-row)[:top_k]
        scores = [Score(label=loaded.labels[label], score=round(float(row[label]), 6)) for label in order]
        best = scores[0]
        data.append(Classification(index=index, label=best.label, score=best.score, scores=scores, **_length(text)))
    return data


@_post("/embeddings", operation_id="create_embeddings")
async def embeddings(body: EmbeddingsRequest, parts: PartsOf, caller: CallerOf) -> EmbeddingsResponse:
    """Text vectors of unit length, pooled as the model was trained to, as OpenAI's embeddings."""
    loaded = await parts.model(body.model, caller.owner)
    check_can(loaded, body.model, "embed", "an encoder")
    width = loaded.config.width
    if body.dimensions is not None and body.dimensions > width:
        raise InvalidRequest(f"dimensions is {body.dimensions}; this model's vectors have {width}", "dimensions")
    if ids := _token_ids(body):
        if body.windows:
            raise InvalidRequest("windows is true for token ids; send text, or cut the ids yourself", "windows")
        _check_count(parts, len(ids))
        encodings = [_from_ids(loaded, row, body.truncate) for row in ids]
        _check_total(parts, encodings)
        texts = whole(encodings)
    else:
        texts = await read(parts, loaded, body)
    answers = texts.own(await parts.engine.submit(loaded, "embed", texts.encodings, caller.owner))
    return await beside(
        len(answers) * width,
        lambda: EmbeddingsResponse(model=body.model, data=_vectors(body, answers), usage=usage(texts.encodings)),
    )


def _vectors(body: EmbeddingsRequest, answers: Answers) -> list[Embedding]:
    vectors = np.stack([text.unit_mean(rows) for text, rows in answers])  # [N, D]
    if body.dimensions is not None:
        vectors = vectors[:, : body.dimensions]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return [
        Embedding(index=index, embedding=_shaped(vector, body.encoding_format), **_length(text))
        for index, (vector, (text, _)) in enumerate(zip(vectors, answers, strict=True))
    ]


def _shaped(vector: Array, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    numbers: list[float] = vector.astype(np.float64).tolist()
    return numbers


@_post("/tag")
async def tag(body: TagRequest, parts: PartsOf, caller: CallerOf) -> TagResponse:
    """A label for every token, word or span of the text, with its place in characters."""
    loaded = await parts.model(body.model, caller.owner)
    check_can(loaded, body.model, "tag", "a token classifier")
    texts = await read(parts, loaded, body)
    answers = texts.own(await parts.engine.submit(loaded, "tag", texts.encodings, caller.owner))
    used = usage(texts.encodings)
    return await beside(
        used.total_tokens,
        lambda: TagResponse(model=body.model, data=_tagged(loaded, body, answers), usage=used),
    )


def _tagged(loaded: LoadedModel, body: TagRequest, answers: Answers) -> list[Tagged]:
    return [
        Tagged(
            index=index,
            tags=[
                Tag(
                    label=found.label,
                    score=round(found.score, 6),
                    start=found.start,
                    end=found.end,
                    text=parts_of(given)[found.segment][found.start : found.end],
                    segment=found.segment,
                )
                for found in find_tags(text.whole, text.by_token(rows), loaded.labels, body.aggregation)
            ],
            **_length(text),
        )
        for index, (given, (text, rows)) in enumerate(zip(as_list(body.input), answers, strict=True))
    ]


@_post("/fill-mask")
async def fill_mask(body: FillMaskRequest, parts: PartsOf, caller: CallerOf) -> FillMaskResponse:
    """The likeliest tokens at each mask. `[MASK]` stands for the model's own mask token, whatever that is."""
    loaded = await parts.model(body.model, caller.owner)
    check_can(loaded, body.model, "fill_mask", "a masked language model")
    mask = loaded.tokenizer.mask_token
    if mask is None:
        raise InvalidRequest(f"the tokenizer of {body.model!r} has no mask token; use another model", "model")
    texts = [_own_mask(text, mask) for text in as_list(body.input)]
    encodings = await encode_for_queue(parts, loaded, texts, body.truncate, masks=True)
    mask_id = loaded.tokenizer.id_of(mask)
    places = [[where for where, number in enumerate(encoding.ids) if number == mask_id] for encoding in encodings]
    for index, masks in enumerate(places):
        if not masks:
            raise InvalidRequest(f"input {index} has no {mask}; put it where a token is to be found", "input")
    rows = await parts.engine.submit(loaded, "fill_mask", encodings, caller.owner)
    used = usage(encodings)

    def filled() -> FillMaskResponse:
        data = [
            FilledMasks(index=index, masks=_masks(loaded, body.top_k, *found), truncated=found[0].truncated)
            for index, found in enumerate(zip(encodings, places, rows, strict=True))
        ]
        return FillMaskResponse(model=body.model, data=data, usage=used)

    return await beside(used.total_tokens + body.top_k * sum(map(len, places)), filled)


def _masks(loaded: LoadedModel, top_k: int, encoding: Encoding, places: list[int], found: Candidates) -> list[Mask]:
    return [
        Mask(
            start=encoding.offsets[where][0],
            end=encoding.offsets[where][1],
            segment=encoding.texts[where],
            candidates=[
                Candidate(token=loaded.tokenizer.token_of(int(number)), id=int(number), score=round(float(score), 6))
                for number, score in zip(ids[:top_k], scores[:top_k], strict=True)
            ],
        )
        for where, ids, scores in zip(places, found.ids, found.probabilities, strict=True)
    ]


@_post("/tokenize")
async def tokenize(body: TokenizeRequest, parts: PartsOf, caller: CallerOf) -> TokenizeResponse:
    """What the model reads: ids, tokens and where each stands in the text, in characters."""
    loaded = await parts.model(body.model, caller.owner)
    masks = loaded.config.task == "masked_lm"
    encodings = await encode(parts, loaded, as_list(body.input), body.truncate, masks=masks)
    used = usage(encodings)
    return await beside(
        used.total_tokens,
        lambda: TokenizeResponse(model=body.model, data=_tokens(loaded, body, encodings), usage=used),
    )


def _tokens(loaded: LoadedModel, body: TokenizeRequest, encodings: Sequence[Encoding]) -> list[Tokens]:
    return [
        Tokens(
            index=index,
            ids=list(encoding.ids),
            tokens=list(encoding.tokens),
            offsets=list(encoding.offsets),
            special=list(encoding.special),
            truncated=encoding.truncated,
            full_length=encoding.full_length,
            normalised="\t".join(map(loaded.tokenizer.normalise, parts_of(text))) if body.normalised else None,
        )
        for index, (text, encoding) in enumerate(zip(as_list(body.input), encodings, strict=True))
    ]


def check_can(loaded: LoadedModel, model_id: str, operation: Operation, wanted: str) -> None:
    """Raises InvalidRequest when this kind of model has no such answer."""
    if operation not in operations_of(loaded.config):
        raise InvalidRequest(
            f"model {model_id!r} can't answer this: its task is {loaded.config.task!r}; use {wanted}, "
            "see GET /v1/models",
            "model",
        )


def parts_of(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _own_mask(text: Text, mask: str) -> Text:
    if isinstance(text, str):
        return text.replace("[MASK]", mask)
    return text[0].replace("[MASK]", mask), text[1].replace("[MASK]", mask)


def as_list(given: Text | Sequence[Text]) -> list[Text]:
    """The `input` field as a list: one text, many texts, or pairs."""
    return [given] if isinstance(given, str) else list(given)


async def read(parts: Parts, loaded: LoadedModel, body: LongTextRequest) -> Texts:
    """The texts of a request, whole or, when it wants that, in windows. Raises InvalidRequest."""
    given = as_list(body.input)
    if not body.windows:
        return whole(await encode_for_queue(parts, loaded, given, body.truncate))
    if body.truncate:
        raise InvalidRequest("truncate and windows are both true; choose what is to happen to long texts", "windows")
    for index, text in enumerate(given):
        if not isinstance(text, str):
            raise InvalidRequest(
                f"input {index} is a pair, which has no windows; set windows=false, or cut the longer text", "windows"
            )
    all_tokens = parts.settings.max_queue_tokens + 1  # a text with more is refused
    encodings = await encode_for_queue(parts, loaded, given, True, all_tokens)
    cut = partial(windowed, encodings, loaded.config.max_positions)
    texts = await beside(sum(len(encoding.ids) for encoding in encodings), cut)
    _check_total(parts, texts.encodings)
    return texts


def _length(text: Read) -> dict[str, Any]:
    """What became of a long text."""
    return {"truncated": text.whole.truncated, "windows": len(text.windows)}


async def encode(
    parts: Parts,
    loaded: LoadedModel,
    texts: list[Text],
    truncate: bool,
    max_tokens: int | None = None,  # None: as many as the model reads
    masks: bool = False,
) -> list[Encoding]:
    """Checks and tokenizes; mask tokens in texts are read as such when asked for. Raises InvalidRequest naming the
    text, its size, the limit and the remedy."""
    _check_texts(parts, texts)
    limit = loaded.config.max_positions if max_tokens is None else max_tokens
    encodings = await parts.engine.reader.encode(loaded.tokenizer, texts, limit, masks=masks)
    _check_whole(encodings, limit, truncate)
    return encodings


async def encode_for_queue(
    parts: Parts,
    loaded: LoadedModel,
    texts: list[Text],
    truncate: bool,
    max_tokens: int | None = None,
    masks: bool = False,
) -> list[Encoding]:
    """As `encode`, of texts that are to be submitted: raises Busy and TooLarge too, for what the queue would refuse."""
    _check_texts(parts, texts)
    limit = loaded.config.max_positions if max_tokens is None else max_tokens
    encodings = await parts.engine.encode(loaded.tokenizer, texts, limit, masks)
    _check_whole(encodings, limit, truncate)
    return encodings


def usage(encodings: Sequence[Encoding]) -> Usage:
    tokens = sum(len(encoding.ids) for encoding in encodings)
    return Usage(prompt_tokens=tokens, total_tokens=tokens)


def _check_texts(parts: Parts, texts: Sequence[Text]) -> None:
    if not texts:
        raise InvalidRequest("input is an empty list; send at least one text", "input")
    _check_count(parts, len(texts))
    for index, text in enumerate(texts):
        if not (text if isinstance(text, str) else text[0]).strip():
            raise InvalidRequest(
                f"input {index} is empty; send at least one character that is not white space", "input"
            )


def _check_whole(encodings: Sequence[Encoding], limit: int, truncate: bool) -> None:
    for index, encoding in enumerate(encodings):
        if encoding.truncated and not truncate:
            about = "about " if encoding.estimated else ""
            raise InvalidRequest(
                f"input {index} has {about}{encoding.full_length} tokens, more than {limit}; "
                "shorten the input or set truncate=true",
                "input",
                "context_length_exceeded",
            )


def _check_count(parts: Parts, texts: int) -> None:
    limit = parts.settings.max_inputs
    if texts > limit:
        raise InvalidRequest(f"input has {texts} texts; the limit is {limit}, send several requests", "input")


def _check_total(parts: Parts, encodings: Sequence[Encoding]) -> None:
    tokens, limit = sum(len(encoding.ids) for encoding in encodings), parts.settings.max_queue_tokens
    if tokens > limit:
        raise TooLarge(f"this request has {tokens} tokens; the limit is {limit}, send several requests", "input")


def _token_ids(body: EmbeddingsRequest) -> list[list[int]]:
    """Token ids a client sent instead of text, one list a text; empty when it sent text."""
    if isinstance(body.input, str) or isinstance(body.input[0] if body.input else "", str):
        return []
    first = body.input[0]
    return [body.input] if isinstance(first, int) else body.input  # type: ignore[list-item, return-value]


def _from_ids(loaded: LoadedModel, ids: list[int], truncate: bool) -> Encoding:
    limit, vocabulary = loaded.config.max_positions, loaded.config.vocab_size
    if bad := [number for number in ids if not 0 <= number < vocabulary]:
        raise InvalidRequest(f"token id {bad[0]} is outside the vocabulary of {vocabulary}", "input")
    if len(ids) > limit and not truncate:
        message = f"{len(ids)} token ids are more than {limit}; shorten the input or set truncate=true"
        raise InvalidRequest(message, "input", "context_length_exceeded")
    kept = tuple(ids[:limit])
    return Encoding.of_ids(kept, full_length=len(ids))


ROUTES = (  # asked most, and by batches
    Route("/v1/classify", ClassifyRequest, classify),
    Route("/v1/embeddings", EmbeddingsRequest, embeddings),
    Route("/v1/tag", TagRequest, tag),
    Route("/v1/fill-mask", FillMaskRequest, fill_mask),
)
