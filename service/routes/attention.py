"""`/v1/attention`: what each token looks at, as JSON, PNG, SVG or bytes by the Accept header."""

import asyncio
import json
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from model.explain.attention import AttentionMethod
from model.explain.two_texts import DecoderPart
from model.explain.units import Merge, Special
from service.attention_format import MEDIA_TYPE, attention_bytes
from service.context import CallerOf, Parts, PartsOf
from service.errors import InvalidRequest
from service.keys import Caller
from service.pictures.views import FOCUS, VIEWS, View, check_rows, check_view, view_png, view_svg
from service.routes.answers import forms
from service.routes.forms import JSON, MAX_JSON_NUMBERS, chosen_form, formed, nested_json
from service.routes.inference import usage
from service.routes.seeing import Seen, resolve
from service.schemas.attention import (
    DECODERS,
    MERGES,
    METHODS,
    NUMBERS,
    SPECIALS,
    AttentionList,
    AttentionRequest,
    AttentionResponse,
)
from service.schemas.base import TRUNCATE

router = APIRouter(prefix="/v1", tags=["explain"])
ANSWER = AttentionResponse | AttentionList
RESPONSES = forms(
    "JSON; by Accept a picture, or the binary form of docs/en/attention-format.md",
    "image/png",
    "image/svg+xml",
    MEDIA_TYPE,
)


@router.post("/attention", operation_id="show_attention", response_model=ANSWER, responses=RESPONSES)
async def attention(body: AttentionRequest, request: Request, parts: PartsOf, caller: CallerOf) -> Response:
    """Attention [layers, heads, units, units] of a text, or of each of several."""
    return await _attention(body, request, parts, caller)


@router.get("/attention", operation_id="show_attention_by_link", response_model=ANSWER, responses=RESPONSES)
async def attention_by_link(
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
    model: Annotated[str, Query(description="a model's id or an alias", examples=["minilm-l6"])],
    input: Annotated[str, Query(max_length=20_000, description="a text", examples=["A good film"])],
    layers: Annotated[str, Query(description=NUMBERS)] = "all",
    heads: Annotated[str, Query(description=NUMBERS)] = "all",
    method: Annotated[AttentionMethod, Query(description=METHODS)] = "raw",
    special: Annotated[Special, Query(description=SPECIALS)] = "keep",
    merge: Annotated[Merge, Query(description=MERGES)] = "token",
    decoder: Annotated[DecoderPart, Query(description=DECODERS)] = "cross",
    view: Annotated[View, Query(description=VIEWS)] = "heatmap",
    focus: Annotated[int | None, Query(ge=0, description=FOCUS)] = None,
    truncate: Annotated[bool, Query(description=TRUNCATE)] = False,
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
    asked = await resolve(parts, caller, body)
    form = chosen_form(request, MAKE)
    check_view(body.view, body.focus, form.startswith("image/"), body.method, asked.layers, asked.heads)
    if form.startswith("image/"):
        if len(asked.texts) > 1:
            raise InvalidRequest(
                f"input has {len(asked.texts)} texts, and a picture shows one; ask for each by itself", "input"
            )
        check_rows(body.view, body.focus, len(asked.units[0]))
    if form == JSON and asked.numbers > MAX_JSON_NUMBERS:
        raise InvalidRequest(
            f"{asked.numbers:,} numbers exceed {MAX_JSON_NUMBERS:,} in JSON; choose fewer layers or heads, or ask for "
            f"the binary form with Accept: {MEDIA_TYPE}"
        )
    answers = []
    for index in range(len(asked.texts)):
        seen = await asked.see(parts, index)
        answers.append(await asyncio.to_thread(MAKE[form], seen))
    if form != JSON:
        return formed(b"".join(answers), form)
    if asked.single:
        return formed(answers[0], form)
    head = json.dumps({"object": "list", "model": body.model, "usage": usage(asked.encodings).model_dump()}).encode()
    return formed(head[:-1] + b',"data":[' + b",".join(answers) + b"]}", form)


def _json(seen: Seen) -> bytes:
    head = seen.header().model_dump_json().encode()
    return head[:-1] + b',"weights":' + nested_json(seen.reduced()) + b"}"


MAKE: dict[str, Callable[[Seen], bytes]] = {
    "image/png": lambda seen: view_png(seen.body.view, seen.picture(), seen.body.focus),
    "image/svg+xml": lambda seen: view_svg(seen.body.view, seen.picture(), seen.body.focus),
    MEDIA_TYPE: lambda seen: attention_bytes(seen.reduced(), seen.header().model_dump()),
    JSON: _json,
}
