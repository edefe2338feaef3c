"""`/v1/explain`: what of a text speaks for an answer and what against it, and how far that can be believed."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from fastapi import APIRouter, Request, Response

from model.explain.faithfulness import PERCENTS, Erasure, Faithfulness, Trial
from model.explain.units import Unit, units_of
from model.tokenizer import Encoding
from service.context import CallerOf, Parts, PartsOf
from service.engine.explaining import Explained, Question, explain, unit_scores
from service.engine.runner import LoadedModel
from service.errors import InvalidRequest
from service.keys import Caller
from service.pictures.saliency import SaliencyPicture, faithfulness_note, saliency_png, saliency_svg
from service.routes.answers import forms
from service.routes.forms import JSON, chosen_form, formed
from service.routes.inference import check_can, encode, parts_of, usage
from service.schemas.explain import (
    Answer,
    ErasureCurve,
    ExplainRequest,
    ExplainResponse,
    FaithfulnessBody,
    RandomControl,
    ScoredUnit,
)

router = APIRouter(prefix="/v1", tags=["explain"])
NUM_ANSWERS = 5  # of a vocabulary
MAX_TOKEN_LETTERS = 200
DRAW: dict[str, Callable[[SaliencyPicture], bytes]] = {"image/png": saliency_png, "image/svg+xml": saliency_svg}
RESPONSES = forms("JSON; by Accept a saliency strip", "image/png", "image/svg+xml")


@router.post("/explain", operation_id="explain", response_model=ExplainResponse, responses=RESPONSES)
async def explanation(body: ExplainRequest, request: Request, parts: PartsOf, caller: CallerOf) -> Response:
    """Scores of a text's units for a label: above zero they speak for it. With faithfulness against chance."""
    answer = (await explained(body, parts, caller)).answer
    form = chosen_form(request, DRAW)
    if form == JSON:
        content = answer.model_dump_json().encode()
    else:
        content = await asyncio.to_thread(DRAW[form], saliency_of(body, answer))
    return formed(content, form)


@dataclass(frozen=True)
class Explanation:
    """An answer, and what of its target the text in it may not tell."""

    answer: ExplainResponse
    loaded: LoadedModel
    label: int  # the target


async def explained(body: ExplainRequest, parts: Parts, caller: Caller, label: int | None = None) -> Explanation:
    """`label` stands for a target of the body that has no text."""
    loaded = await parts.model(body.model, caller.owner)
    if loaded.config.task != "causal_lm":
        check_can(loaded, body.model, "classify", "a classifier, a regression model or one that writes on")
    limit = min(parts.settings.max_attention_tokens, loaded.config.max_positions)
    (encoding,) = await encode(parts, loaded, [body.input], body.truncate, limit)
    trial = Trial(num_random=body.num_random, beam_width=int(body.normalise)) if body.faithfulness else None
    against = None if body.against is None else output_of(loaded, body.against, "against")
    if body.target is not None:
        label = output_of(loaded, body.target, "target")
    if label is not None and label == against:
        raise InvalidRequest(f"target and against are both {body.against!r}; name two different ones", "against")
    question = Question(body.method, label, against, trial)
    seen = await parts.engine.look("explain", encoding, partial(explain, loaded, encoding, question))
    return Explanation(_response(body, loaded, encoding, seen), loaded, seen.target.label)


def output_of(loaded: LoadedModel, name: str, field: str) -> int:
    """The number of a label, or of the one token that a next token's text is. Raises InvalidRequest."""
    if loaded.config.task == "causal_lm":
        (encoding,) = loaded.tokenizer.encode([name[:MAX_TOKEN_LETTERS]], MAX_TOKEN_LETTERS, special_tokens=False)
        if len(encoding.ids) != 1 or len(name) > MAX_TOKEN_LETTERS:
            raise InvalidRequest(
                f"{field} is {name[:40]!r}, not 1 token but {len(encoding.ids)} or more; send the text of one, "
                "with the space before it",
                field,
            )
        return encoding.ids[0]
    labels = labels_of(loaded)
    if name not in labels:
        raise InvalidRequest(f"{field} is {name[:40]!r}, not a label of this model; choose from {labels}", field)
    return labels.index(name)


def labels_of(loaded: LoadedModel) -> list[str]:
    """A regression model's one number is called score."""
    return ["score"] if loaded.config.task == "regression" else list(loaded.labels)


def _response(body: ExplainRequest, loaded: LoadedModel, encoding: Encoding, seen: Explained) -> ExplainResponse:
    units = units_of(encoding, parts_of(body.input), body.merge, body.special)
    scores = unit_scores(seen.attribution.scores, [unit.tokens for unit in units])
    attribution, target = seen.attribution, seen.target
    return ExplainResponse(
        model=body.model,
        method=body.method,
        target=_name(loaded, target.label),
        against=None if target.against is None else _name(loaded, target.against),
        value=attribution.value,
        baseline=attribution.baseline,
        rest=attribution.rest,
        hidden=float(attribution.scores.double().sum()) - float(scores.sum()),
        prediction=_prediction(loaded, seen.answers.tolist()),
        tokens=list(encoding.tokens),
        ids=list(encoding.ids),
        offsets=list(encoding.offsets),
        special=list(encoding.special),
        units=[
            ScoredUnit(**(vars(unit) | {"tokens": list(unit.tokens)}), score=round(float(score), 6))
            for unit, score in zip(units, scores, strict=True)
        ],
        faithfulness=None if seen.faithfulness is None else _faithfulness(seen.faithfulness, body.num_random),
        truncated=encoding.truncated,
        usage=usage([encoding]),
    )


def _name(loaded: LoadedModel, number: int) -> str:
    return loaded.tokenizer.decode([number]) if loaded.config.task == "causal_lm" else labels_of(loaded)[number]


def _prediction(loaded: LoadedModel, answers: Sequence[float]) -> list[Answer]:
    order = np.argsort(-np.array(answers))
    if loaded.config.task == "causal_lm":
        order = order[:NUM_ANSWERS]
    return [Answer(label=_name(loaded, int(number)), score=round(answers[int(number)], 6)) for number in order]


def _faithfulness(found: Faithfulness, num_random: int) -> FaithfulnessBody:
    return FaithfulnessBody(
        answer=round(found.answer, 6),
        percents=list(PERCENTS),
        comprehensiveness=_curve(found.comprehensiveness),
        sufficiency=_curve(found.sufficiency),
        num_random=num_random,
        verdict=found.verdict,
    )


def _curve(erasure: Erasure) -> ErasureCurve:
    random = RandomControl(mean=round(erasure.random.mean, 6), deviation=round(erasure.random.deviation, 6))
    return ErasureCurve(
        at=[round(loss, 6) for loss in erasure.at],
        aopc=round(erasure.aopc, 6),
        random=random,
        normalised=erasure.normalised,
    )


def saliency_of(body: ExplainRequest, answer: ExplainResponse) -> SaliencyPicture:
    """The answer as what a picture is drawn from."""
    units = [
        Unit(unit.text, unit.start, unit.end, unit.segment, unit.special, tuple(unit.tokens)) for unit in answer.units
    ]
    best = answer.prediction[0]
    notes = [f"the model answers {best.label} ({best.score:.3f}); value of the target {answer.value:.3f}"]
    if (trust := answer.faithfulness) is not None:
        without, alone = ((curve.aopc, curve.random.mean) for curve in (trust.comprehensiveness, trust.sufficiency))
        notes.append(faithfulness_note(trust.verdict, without, alone))
    if answer.truncated:
        notes.append("the text was cut: what follows was not read")
    title = f"{body.model} · {body.method.replace('_', ' ')}"
    scores = [unit.score for unit in answer.units]
    return SaliencyPicture(parts_of(body.input), units, scores, title, answer.target, answer.against, notes)
