"""`/v1/models`: what can be called, and how it is built."""

import asyncio
from collections.abc import Sequence
from math import isfinite
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.convertors import Convertor, register_url_convertor

from model.diagram import Format, draw_config
from service.aliases import Named
from service.context import CallerOf, Parts, PartsOf
from service.errors import Conflict, InvalidRequest, NotFound
from service.keys import Caller
from service.model_card import CARD_FILE
from service.model_store import ModelCard
from service.registry import routes_of
from service.routes.answers import forms, refusals
from service.routes.names import Alias, ModelId
from service.schemas.base import Deleted
from service.schemas.models import AliasList, AliasObject, ModelList, ModelObject, PromoteRequest

router = APIRouter(prefix="/v1/models", tags=["models"])
aliases_router = APIRouter(prefix="/v1/aliases", tags=["models"])
GATE = "gate_not_passed"
ERRORS = frozenset(  # held-out figures of which less is better
    ("loss", "perplexity", "mean_absolute_error", "median_absolute_error", "root_mean_squared_error")
)
DIAGRAM_RESPONSE = forms(
    "SVG, or Mermaid when format=mermaid or Accept asks for text/vnd.mermaid or text/plain",
    "image/svg+xml",
    "text/plain",
)


class ModelPath(Convertor[str]):
    """A model's id in a path: it may have slashes, and does not end as the routes below it do."""

    regex = r"(?:(?!/(?:card|diagram|promote|rollback)$).)+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("model", ModelPath())
MEDIA_TYPES: dict[Format, str] = {"svg": "image/svg+xml", "mermaid": "text/plain"}


@router.get("")
async def list_models(parts: PartsOf, caller: CallerOf) -> ModelList:
    """Every model, newest first."""
    cards = await asyncio.to_thread(parts.registry.store.cards, caller.owner)
    aliases = await asyncio.to_thread(parts.names.store.all, caller.owner)
    return ModelList(data=[shape(card, parts, aliases) for card in cards])


@router.get(
    "/{model_id:model}/diagram",
    operation_id="get_model_diagram",
    response_class=Response,
    responses=DIAGRAM_RESPONSE | refusals(404),
)
async def diagram(
    model_id: ModelId,
    request: Request,
    parts: PartsOf,
    caller: CallerOf,
    format: Annotated[Format | None, Query(description="default: by the Accept header, else svg")] = None,
) -> Response:
    """The model as a picture: blocks, shapes, parameters and FLOPs per token."""
    card = await _find(model_id, parts, caller)
    form = format or _accepted(request.headers.get("accept", ""))
    text = await asyncio.to_thread(draw_config, card.config, card.id, form)
    return Response(text, media_type=MEDIA_TYPES[form], headers={"vary": "accept"})


@router.get(
    "/{model_id:model}/card",
    operation_id="get_model_card",
    response_class=Response,
    responses=forms("Markdown", "text/markdown") | refusals(404),
)
async def card(model_id: ModelId, parts: PartsOf, caller: CallerOf) -> PlainTextResponse:
    """What a tuned model was made from, how good it is and where it should not be trusted, in Markdown."""
    found = await _find(model_id, parts, caller)
    path = found.folder / CARD_FILE
    if not path.is_file():
        raise NotFound(f"{model_id} has no card; tuned models have one, bases have not", "model")
    text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    return PlainTextResponse(text, media_type="text/markdown")


@router.post("/{model_id:model}/promote", operation_id="promote_model", responses=refusals(404, 409))
async def promote(model_id: ModelId, body: PromoteRequest, parts: PartsOf, caller: CallerOf) -> AliasObject:
    """From here on the alias stands for this model, once it is loaded and has passed the gate that is asked for."""
    card = await asyncio.to_thread(parts.registry.store.find, model_id, caller.owner)
    cards = {one.id: one for one in await asyncio.to_thread(parts.registry.store.cards, caller.owner)}
    if body.alias in cards:
        raise Conflict(f"{body.alias!r} is the id of a model; choose another alias", "alias")
    aliases = {one.name: one.model for one in await asyncio.to_thread(parts.names.store.all, caller.owner)}
    _check_gate(card, cards.get(aliases.get(body.alias, "")), body)
    await parts.registry.get(model_id, caller.owner)  # its first request must not wait
    await asyncio.to_thread(parts.registry.store.find, model_id, caller.owner)  # deleted meanwhile, it gets no name
    named = await asyncio.to_thread(parts.names.store.promote, caller.owner, body.alias, model_id)
    parts.names.forget()
    return shape_alias(named)


@router.post("/{alias}/rollback", operation_id="roll_back_alias", responses=refusals(404, 409))
async def roll_back(alias: Alias, parts: PartsOf, caller: CallerOf) -> AliasObject:
    """The alias stands again for the model before."""
    ids = {card.id for card in await asyncio.to_thread(parts.registry.store.cards, caller.owner)}
    named = await asyncio.to_thread(parts.names.store.roll_back, caller.owner, alias, ids.__contains__)
    parts.names.forget()
    return shape_alias(named)


@router.get("/{model_id:model}", responses=refusals(404))
async def get_model(model_id: ModelId, parts: PartsOf, caller: CallerOf) -> ModelObject:
    """One model, by its id or by an alias."""
    card = await _find(model_id, parts, caller)
    return shape(card, parts, await asyncio.to_thread(parts.names.store.all, caller.owner))


@router.delete("/{model_id:model}", responses=refusals(404, 409))
async def delete_model(model_id: ModelId, parts: PartsOf, caller: CallerOf) -> Deleted:
    """Removes a tuned model from the store and from memory."""
    card = await asyncio.to_thread(parts.registry.store.find, model_id, caller.owner)
    if card.base_model is None:
        raise Conflict(f"{model_id} is a base model; only tuned models can be deleted here", "model")
    if names := await asyncio.to_thread(parts.names.store.of_model, model_id):
        raise Conflict(
            f"the alias {names[0]} stands for {model_id}; promote another model, or delete the alias", "model"
        )
    if (job_id := await asyncio.to_thread(parts.jobs.job_on, model_id)) is not None:
        raise Conflict(f"{job_id}, which has not ended, begins from {model_id}; cancel the job first", "model")
    await asyncio.to_thread(parts.registry.store.delete, model_id)
    await asyncio.to_thread(parts.jobs.remove_checkpoint, model_id)
    parts.registry.drop(model_id)
    return Deleted(id=model_id, object="model")


@aliases_router.get("")
async def list_aliases(parts: PartsOf, caller: CallerOf) -> AliasList:
    """What each of your names stands for, and where a roll-back would go."""
    return AliasList(data=[shape_alias(one) for one in await asyncio.to_thread(parts.names.store.all, caller.owner)])


@aliases_router.delete("/{alias}", responses=refusals(404))
async def delete_alias(alias: Alias, parts: PartsOf, caller: CallerOf) -> Deleted:
    """Forgets a name; the model stays."""
    await asyncio.to_thread(parts.names.store.remove, caller.owner, alias)
    parts.names.forget()
    return Deleted(id=alias, object="alias")


async def _find(name: str, parts: Parts, caller: Caller) -> ModelCard:
    model_id = await parts.names.model(name, caller.owner, fresh=True)
    return await asyncio.to_thread(parts.registry.store.find, model_id, caller.owner)


def _check_gate(card: ModelCard, current: ModelCard | None, body: PromoteRequest) -> None:
    """Raises InvalidRequest for a gate that can't be asked, Conflict for one that is not passed."""
    if body.metric is None:
        if body.at_least is not None or body.beats_current:
            raise InvalidRequest(
                "at_least and beats_current need a metric; name one, for instance 'accuracy'", "metric"
            )
        return
    value = _figure(card, body.metric)
    is_error = body.metric in ERRORS
    if is_error and body.at_least is not None:
        raise InvalidRequest(
            f"at_least is {body.at_least:g}, and of {body.metric} less is better; ask beats_current instead", "at_least"
        )
    if body.at_least is not None and value < body.at_least:
        raise Conflict(
            f"{card.id} has {body.metric} {value:.4f}, below {body.at_least:g}; it was not promoted", "metric", GATE
        )
    if body.beats_current and current is not None:
        present = _figure(current, body.metric)
        if not (value < present if is_error else value > present):
            raise Conflict(
                f"{card.id} has {body.metric} {value:.4f}, {current.id} has {present:.4f}; it was not promoted",
                "metric",
                GATE,
            )


def _figure(card: ModelCard, metric: str) -> float:
    figures = {
        name: value
        for name, value in (card.metrics or {}).items()
        if isinstance(value, int | float) and isfinite(value)
    }
    if metric not in figures:
        known = ", ".join(sorted(figures)) or "no figures"
        raise InvalidRequest(f"{card.id} has no figure {metric!r}; it has {known}", "metric")
    return float(figures[metric])


def shape_alias(named: Named) -> AliasObject:
    return AliasObject(id=named.name, model=named.model, changed_at=int(named.changed_at), previous=named.previous)


def _accepted(header: str) -> Format:
    wants_text = "text/vnd.mermaid" in header or "text/plain" in header
    return "mermaid" if wants_text and "image/svg+xml" not in header else "svg"


def shape(card: ModelCard, parts: Parts, aliases: Sequence[Named]) -> ModelObject:
    return ModelObject(
        id=card.id,
        aliases=[alias.name for alias in aliases if alias.model == card.id],
        created=card.created_at,
        owned_by=card.owner or "vitrine",
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
        dtype=parts.registry.dtype_of(card),
        recorded_passes=parts.registry.recorded_passes(card.id),
        resident=card.id in parts.registry.resident,
        bento_tag=card.tag,
        metrics=card.metrics,
    )
