"""`/v1/trace`: every step of one forward pass with its numbers, which the page plays."""

import asyncio
from functools import partial

from fastapi import APIRouter, Response

from model.explain.stages import Guess
from model.explain.units import units_of
from service.context import CallerOf, PartsOf
from service.engine.explaining import Cut, Step, nested, trace
from service.engine.runner import LoadedModel
from service.routes.explain import labels_of
from service.routes.forms import MAX_JSON_NUMBERS
from service.routes.inference import check_can, encode, parts_of, usage
from service.routes.numbers import within
from service.schemas.attention import AttentionUnit
from service.schemas.explain import (
    GuessedToken,
    LayerGuess,
    Summary,
    TraceConfig,
    TraceRequest,
    TraceResponse,
    TraceStage,
)

router = APIRouter(prefix="/v1", tags=["explain"])
DIGITS = 4


@router.post("/trace", operation_id="trace", response_model=TraceResponse)
async def forward_pass(body: TraceRequest, parts: PartsOf, caller: CallerOf) -> Response:
    """Each stage's inputs, formula, shape, summary and numbers; of a language model also its guess after each layer.

    The pass is computed in float32 and by its formulas, whatever the model is served in."""
    loaded = await parts.model(body.model, caller.owner)
    check_can(loaded, body.model, "embed", "an encoder or a causal decoder")
    cut = Cut(within(body.layers, loaded.config.num_layers, "layers"), body.stages, body.columns, MAX_JSON_NUMBERS)
    limit = min(parts.settings.max_attention_tokens, loaded.config.max_positions)
    masks = loaded.config.task == "masked_lm"
    (encoding,) = await encode(parts, loaded, [body.input], body.truncate, limit, masks)
    steps, found = await parts.engine.look("trace", encoding, partial(trace, loaded, encoding, cut, body.num_guesses))
    units = units_of(encoding, parts_of(body.input), "token", "keep")
    head = TraceResponse(
        model=body.model,
        config=_config(loaded),
        labels=labels_of(loaded),
        tokens=list(encoding.tokens),
        ids=list(encoding.ids),
        offsets=list(encoding.offsets),
        special=list(encoding.special),
        units=[AttentionUnit(**(vars(unit) | {"tokens": list(unit.tokens)})) for unit in units],
        stages=[],
        guesses=[_guess(loaded, guess) for guess in found],
        truncated=encoding.truncated,
        usage=usage([encoding]),
    )
    content = await asyncio.to_thread(_json, head, steps)
    return Response(content, media_type="application/json")


def _json(head: TraceResponse, steps: list[Step]) -> bytes:
    """Stage by stage: one long call would hold up the event loop, in a thread as well."""
    stages = b",".join(_stage(step).model_dump_json().encode() for step in steps)
    return head.model_dump_json().encode().replace(b'"stages":[]', b'"stages":[' + stages + b"]", 1)


def _stage(step: Step) -> TraceStage:
    stage = step.stage
    return TraceStage(
        name=stage.name,
        layer=stage.layer,
        inputs=list(stage.inputs),
        formula=stage.formula,
        shape=list(stage.values.shape),
        summary=Summary(**{name: round(value, DIGITS) for name, value in step.summary.items()}),
        norms=None if step.norms is None else _listed(nested(step.norms, DIGITS)),
        values=None if step.shown is None else nested(step.shown, DIGITS),
    )


def _listed(norms: object) -> list[object]:
    return norms if isinstance(norms, list) else [norms]  # one vector has one length


def _guess(loaded: LoadedModel, guess: Guess) -> LayerGuess:
    tokens = [
        [
            GuessedToken(text=loaded.tokenizer.decode([number]), id=number, probability=round(probability, DIGITS))
            for number, probability in zip(ids, probabilities, strict=True)
        ]
        for ids, probabilities in zip(guess.ids.tolist(), guess.probabilities.tolist(), strict=True)
    ]
    return LayerGuess(layer=guess.layer, tokens=tokens)


def _config(loaded: LoadedModel) -> TraceConfig:
    config = loaded.config
    return TraceConfig(
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        width=config.width,
        head_width=config.width // config.num_heads,
        feed_forward_width=config.feed_forward_width,
        vocab_size=config.vocab_size,
        task=config.task,
        pooling=config.pooling,
        positions=config.positions,
        activation=config.activation,
        norm_first=config.norm_first,
        causal=config.architecture == "decoder",
    )
