"""`/v1/models`: what can be called."""

import asyncio

from fastapi import APIRouter

from service.context import Parts, PartsOf
from service.errors import Conflict
from service.registry import ModelCard
from service.schemas import Deleted, ModelList, ModelObject

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(parts: PartsOf) -> ModelList:
    """Every model, newest first."""
    cards = await asyncio.to_thread(parts.registry.store.cards)
    return ModelList(data=[shape(card, parts) for card in cards])


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


def shape(card: ModelCard, parts: Parts) -> ModelObject:
    return ModelObject(
        id=card.id,
        created=card.created_at,
        owned_by=card.owned_by,
        task=card.config.task,
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
