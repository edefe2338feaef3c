"""`/v1/classify`, `/v1/embeddings`, `/v1/tokenize`: text in, answers out."""

import asyncio
import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter

from model.tokenizer import Encoding
from service.context import Parts, PartsOf
from service.engine.runner import LoadedModel
from service.errors import InvalidRequest, TooLarge
from service.schemas import (
    Classification,
    ClassifyRequest,
    ClassifyResponse,
    Embedding,
    EmbeddingsRequest,
    EmbeddingsResponse,
    Score,
    TokenizeRequest,
    TokenizeResponse,
    Tokens,
    Usage,
)

router = APIRouter(prefix="/v1", tags=["inference"])
Text = str | tuple[str, str]
INLINE_CHARACTERS = 4_000  # shorter input is tokenized on the spot; a thread hop would cost more


@router.post("/classify")
async def classify(body: ClassifyRequest, parts: PartsOf) -> ClassifyResponse:
    """Labels with scores for each text; the scores of one text sum to 1 (before top_k)."""
    loaded = await parts.registry.get(body.model)
    if not loaded.labels:
        raise InvalidRequest(
            f"model {body.model!r} has no classification head; use a fine-tuned model, see GET /v1/models", "model"
        )
    encodings = await encode(parts, loaded, as_list(body.input), body.truncate)
    rows = await parts.engine.submit(loaded, "classify", encodings)
    data = []
    for index, (encoding, row) in enumerate(zip(encodings, rows, strict=True)):
        order = np.argsort(-row)[: body.top_k]
        scores = [Score(label=loaded.labels[label], score=round(float(row[label]), 6)) for label in order]
        best = scores[0]
        data.append(
            Classification(index=index, label=best.label, score=best.score, scores=scores, truncated=encoding.truncated)
        )
    return ClassifyResponse(model=body.model, data=data, usage=usage(encodings))


@router.post("/embeddings")
async def embeddings(body: EmbeddingsRequest, parts: PartsOf) -> EmbeddingsResponse:
    """Mean-pooled text vectors of unit length, as OpenAI's embeddings."""
    loaded = await parts.registry.get(body.model)
    width = loaded.model.config.width
    if body.dimensions is not None and body.dimensions > width:
        raise InvalidRequest(f"dimensions is {body.dimensions}; this model's vectors have {width}", "dimensions")
    if ids := _token_ids(body):
        encodings = [_from_ids(loaded, row, body.truncate) for row in ids]
        _check_total(parts, encodings)
    else:
        encodings = await encode(parts, loaded, as_list(body.input), body.truncate)  # type: ignore[arg-type]
    vectors = np.stack(await parts.engine.submit(loaded, "embed", encodings))  # [N, D]
    if body.dimensions is not None:
        vectors = vectors[:, : body.dimensions]
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    shaped: list[list[float] | str]
    if body.encoding_format == "base64":
        shaped = [base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii") for vector in vectors]
    else:
        shaped = [[float(value) for value in vector] for vector in vectors]
    data = [
        Embedding(index=index, embedding=vector, truncated=encoding.truncated)
        for index, (vector, encoding) in enumerate(zip(shaped, encodings, strict=True))
    ]
    return EmbeddingsResponse(model=body.model, data=data, usage=usage(encodings))


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, parts: PartsOf) -> TokenizeResponse:
    """What the model reads: ids, tokens and where each stands in the text, in characters."""
    loaded = await parts.registry.get(body.model)
    encodings = await encode(parts, loaded, as_list(body.input), body.truncate)
    data = [
        Tokens(
            index=index,
            ids=list(encoding.ids),
            tokens=list(encoding.tokens),
            offsets=list(encoding.offsets),
            special=list(encoding.special),
            truncated=encoding.truncated,
        )
        for index, encoding in enumerate(encodings)
    ]
    return TokenizeResponse(model=body.model, data=data, usage=usage(encodings))


def as_list(given: Text | Sequence[Text]) -> list[Text]:
    """The `input` field as a list: one text, many texts, or pairs."""
    return [given] if isinstance(given, str) else list(given)


async def encode(
    parts: Parts, loaded: LoadedModel, texts: list[Text], truncate: bool, max_tokens: int | None = None
) -> list[Encoding]:
    """Checks and tokenizes. Raises InvalidRequest naming the text, its size, the limit and the remedy."""
    if not texts:
        raise InvalidRequest("input is an empty list; send at least one text", "input")
    if len(texts) > parts.settings.max_inputs:
        raise InvalidRequest(
            f"input has {len(texts)} texts; the limit is {parts.settings.max_inputs}, send several requests", "input"
        )
    for index, text in enumerate(texts):
        if not (text if isinstance(text, str) else text[0]).strip():
            raise InvalidRequest(
                f"input {index} is empty; send at least one character that is not white space", "input"
            )
    limit = min(max_tokens or loaded.model.config.max_positions, loaded.model.config.max_positions)
    characters = sum(len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in texts)
    if characters <= INLINE_CHARACTERS:
        encodings = loaded.tokenizer.encode(texts, limit)
    else:
        encodings = await asyncio.to_thread(loaded.tokenizer.encode, texts, limit)
    for index, encoding in enumerate(encodings):
        if encoding.truncated and not truncate:
            raise InvalidRequest(
                f"input {index} has {encoding.full_length} tokens, more than {limit}; "
                "shorten the input or set truncate=true",
                "input",
                "context_length_exceeded",
            )
    _check_total(parts, encodings)
    return encodings


def usage(encodings: Sequence[Encoding]) -> Usage:
    tokens = sum(len(encoding.ids) for encoding in encodings)
    return Usage(prompt_tokens=tokens, total_tokens=tokens)


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
    limit, vocabulary = loaded.model.config.max_positions, loaded.model.config.vocab_size
    if bad := [number for number in ids if not 0 <= number < vocabulary]:
        raise InvalidRequest(f"token id {bad[0]} is outside the vocabulary of {vocabulary}", "input")
    if len(ids) > limit and not truncate:
        message = f"{len(ids)} token ids are more than {limit}; shorten the input or set truncate=true"
        raise InvalidRequest(message, "input", "context_length_exceeded")
    kept = tuple(ids[:limit])
    count = len(kept)
    return Encoding(kept, ("",) * count, ((0, 0),) * count, (0,) * count, (False,) * count, len(ids) > limit, len(ids))
