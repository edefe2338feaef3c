"""`/v1/attention`: what each token looks at, as JSON or PNG by the Accept header."""

import asyncio
import re
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response

from model.tokenizer import Encoding
from service.context import CallerOf, Parts, PartsOf
from service.errors import InvalidRequest
from service.keys import Caller
from service.render import attention_png
from service.routes.inference import check_can, encode
from service.schemas import AttentionRequest, AttentionResponse

router = APIRouter(prefix="/v1", tags=["explain"])
UNKNOWN_TOKEN = "[UNK]"
PNG_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "JSON, or a PNG when Accept asks for image/png"}
}


@router.post("/attention", response_model=AttentionResponse, responses=PNG_RESPONSE)
async def attention(
    body: AttentionRequest, request: Request, parts: PartsOf, caller: CallerOf
) -> Response | AttentionResponse:
    """Attention probabilities [layers, heads, tokens, tokens]; each row sums to 1."""
    return await _attention(body, request, parts, caller)


@router.get("/attention", response_model=AttentionResponse, responses=PNG_RESPONSE)
async def attention_by_link(
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
    model: str,
    input: Annotated[str, Query(max_length=20_000)],
    layers: Annotated[str, Query(description="'all' or numbers such as 0,2")] = "all",
    heads: Annotated[str, Query(description="'all' or numbers such as 0,2")] = "all",
    truncate: bool = False,
) -> Response | AttentionResponse:
    """The same by a link, for an image tag or a bookmark."""
    body = AttentionRequest(
        model=model,
        input=input,
        layers=_numbers(layers, "layers"),  # type: ignore[arg-type]
        heads=_numbers(heads, "heads"),  # type: ignore[arg-type]
        truncate=truncate,
    )
    return await _attention(body, request, parts, caller)


async def _attention(
    body: AttentionRequest, request: Request, parts: Parts, caller: Caller
) -> Response | AttentionResponse:
    loaded = await parts.model(body.model, caller.owner)
    config = loaded.config
    check_can(loaded, body.model, "embed", "an encoder or a causal decoder")
    layers = _within(body.layers, config.num_layers, "layers")
    heads = _within(body.heads, config.num_heads, "heads")
    limit = min(parts.settings.max_attention_tokens, config.max_positions)
    masks = loaded.config.task == "masked_lm"
    (encoding,) = await encode(parts, loaded, [body.input], body.truncate, limit, masks)
    weights = (await parts.engine.attention(loaded, encoding))[np.ix_(layers, heads)]  # [L, H, T, T]
    if "image/png" in request.headers.get("accept", ""):
        labels = _shown(encoding, body.input)
        png = await asyncio.to_thread(attention_png, weights, labels, layers, heads, body.model)
        return Response(png, media_type="image/png")
    tokens = len(encoding.ids)
    rounded = await asyncio.to_thread(lambda: np.round(weights.astype(np.float64), 4).tolist())
    return AttentionResponse(
        model=body.model,
        tokens=list(encoding.tokens),
        ids=list(encoding.ids),
        offsets=list(encoding.offsets),
        special=list(encoding.special),
        layers=layers,
        heads=heads,
        shape=(len(layers), len(heads), tokens, tokens),
        weights=rounded,
        truncated=encoding.truncated,
    )


def _shown(encoding: Encoding, text: str | tuple[str, str]) -> list[str]:
    """Token labels for a picture; a token outside the vocabulary is shown as the characters it stands for, with a *."""
    texts = (text,) if isinstance(text, str) else text
    labels = []
    for token, (start, end), which in zip(encoding.tokens, encoding.offsets, encoding.texts, strict=True):
        labels.append(f"{texts[which][start:end]}*" if token == UNKNOWN_TOKEN and end > start else token)
    return labels


def _within(wanted: list[int] | str, count: int, name: str) -> list[int]:
    if isinstance(wanted, str):
        return list(range(count))
    if not wanted:
        raise InvalidRequest(f"{name} is an empty list; name at least one or send 'all'", name)
    if outside := [number for number in wanted if not 0 <= number < count]:
        raise InvalidRequest(f"{name} {outside[0]} does not exist; this model has {name} 0 to {count - 1}", name)
    return sorted(set(wanted))


def _numbers(given: str, name: str) -> list[int] | str:
    if given == "all":
        return given
    if not re.fullmatch(r"-?\d{1,4}(,-?\d{1,4})*", given):
        raise InvalidRequest(f"{name} is {given[:40]!r}; send 'all' or numbers such as 0,2", name)
    return [int(number) for number in given.split(",")]
