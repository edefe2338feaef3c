"""`/v1/models`: what can be called, and how it is built."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from model.diagram import Format, draw_config
from service.context import Parts, PartsOf
from service.errors import Conflict
from service.registry import ModelCard, routes_of
from service.schemas import Deleted, ModelList, ModelObject

router = APIRouter(prefix="/v1/models", tags=["models"])
DIAGRAM_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"image/svg+xml": {}, "text/plain": {}},
        "description": "SVG, or Mermaid when format=mermaid or Accept asks for text/vnd.mermaid or text/plain",
    }
}
MEDIA_TYPES: dict[Format, str] = {"svg": "image/svg+xml", "mermaid": "text/plain"}


@router.get("")
async def list_models(parts: PartsOf) -> ModelList:
    """Every model, newest first."""
    cards = await asyncio.to_thread(parts.registry.store.cards)
    return ModelList(data=[shape(card, parts) for card in cards])


@router.get("/{model_id:path}/diagram", response_class=Response, responses=DIAGRAM_RESPONSE)
async def diagram(
    model_id: str,
    request: Request,
    parts: PartsOf,
    format: Annotated[Format | None, Query(description="default: by the Accept header, else svg")] = None,
) -> Response:
    """The model as a picture: blocks, shapes, parameters and FLOPs per token."""
    card = await asyncio.to_thread(parts.registry.store.find, model_id)
    form = format or _accepted(request.headers.get("accept", ""))
    text = await asyncio.to_thread(draw_config, card.config, card.id, form)
    return Response(text, media_type=MEDIA_TYPES[form], headers={"vary": "accept"})


@router.get("/{model_id:path}")
async def get_model(model_id: str, parts: PartsOf) -> ModelObject:
    """One model."""
    return shape(await asyncio.to_thread(parts.registry.store.find, model_id), parts)


@router.delete("/{model_id:path}")
async def delete_model(model_id: str, parts: PartsOf) -> Deleted:
    """Removes a tuned model from the store and from memory."""
    card = await asyncio.to_thread(parts.registry.store.find, model_id)
    if card.base_model is None:
        raise Conflict(f"{model_id} is a base model; only tuned models can be deleted here", "model")
    await asyncio.to_thread(parts.registry.store.delete, model_id)
    parts.registry.drop(model_id)
    return Deleted(id=model_id, object="model")


def _accepted(header: str) -> Format:
    wants_text = "text/vnd.mermaid" in header or "text/plain" in header
    return "mermaid" if wants_text and "image/svg+xml" not in header else "svg"


def shape(card: ModelCard, parts: Parts) -> ModelObject:
    return ModelObject(
        id=card.id,
        created=card.created_at,
        owned_by=card.owned_by,
        task=card.config.task,
        architecture=card.config.architecture,
        routes=routes_of(card.config),
        adapter=card.adapter,
        labels=list(card.config.labels) or None,
        num_layers=card.config.num_layers,
        num_heads=card.config.num_heads,
        width=card.config.width,
        max_length=card.config.max_positions,
        base_model=card.base_model,
        dtype=parts.registry.dtype,
        resident=card.id in parts.registry.resident,
        bento_tag=card.tag,
        metrics=card.metrics,
    )
