"""`/v1/attention/compare`, `/v1/explain/compare`: two models on one text, or one model on a text and its edit."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response

from model.explain.alignment import matched
from service.context import CallerOf, Parts, PartsOf
from service.engine.runner import LoadedModel
from service.errors import InvalidRequest
from service.keys import Caller
from service.pictures.comparison import StripsPicture, difference_of, strips_png, strips_svg
from service.pictures.heatmap import Picture, attention_png, attention_svg
from service.pictures.views import MAX_ROWS
from service.routes.answers import forms
from service.routes.explain import Explanation, explained, labels_of, output_of, saliency_of
from service.routes.forms import JSON, MAX_JSON_NUMBERS, chosen_form, formed, nested_json
from service.routes.seeing import Asked, Seen, resolve
from service.schemas.attention import AttentionRequest
from service.schemas.compare import (
    AttentionChange,
    AttentionComparison,
    CompareAttentionRequest,
    CompareExplainRequest,
    CompareRequest,
    ExplainComparison,
    ScoreChange,
    Side,
)
from service.schemas.explain import ExplainRequest, ExplainResponse

router = APIRouter(prefix="/v1", tags=["explain"])
NUM_LARGEST = 12
DIGITS = 4
Matched = list[tuple[int, int]]
RESPONSES = forms("JSON; by Accept a picture", "image/png", "image/svg+xml")


@router.post("/attention/compare", response_model=AttentionComparison, responses=RESPONSES)
async def compare_attention(
    body: CompareAttentionRequest, request: Request, parts: PartsOf, caller: CallerOf
) -> Response:
    """Attention on the right less attention on the left, of the units that both sides have."""
    left, right = [await _asked(body, side, parts, caller) for side in (body.left, body.right)]
    form = chosen_form(request, ATTENTION)
    if (left.layers, left.heads) != (right.layers, right.heads):
        raise InvalidRequest(
            f"the left has layers {left.layers} with {len(left.heads)} heads, the right {right.layers} with "
            f"{len(right.heads)}; choose layers and heads that both have, or layers alone with method=rollout",
            "layers",
        )
    units = matched(left.units[0], right.units[0])
    _check(len(left.layers) * len(left.heads), len(units), form)
    seen = (await left.see(parts, 0), await right.see(parts, 0))
    content = await asyncio.to_thread(ATTENTION[form], _Attentions(body, seen, units))
    return formed(content, form)


async def _asked(body: CompareAttentionRequest, side: Side, parts: Parts, caller: Caller) -> Asked:
    options = body.model_dump(exclude={"left", "right"})
    given: str | list[str | tuple[str, str]] = side.input if isinstance(side.input, str) else [*side.input]
    return await resolve(parts, caller, AttentionRequest(model=side.model, input=given, **options))


def _check(matrices: int, units: int, form: str) -> None:
    if not units:
        raise InvalidRequest("the two texts have no unit in common; compare a text with an edit of it", "right")
    if form == JSON and matrices * units**2 > MAX_JSON_NUMBERS:
        raise InvalidRequest(
            f"{matrices * units**2:,} numbers exceed {MAX_JSON_NUMBERS:,} in JSON; choose fewer layers or heads"
        )
    if form != JSON and units > MAX_ROWS["heatmap"]:
        raise InvalidRequest(f"{units} rows exceed {MAX_ROWS['heatmap']} in a picture; shorten the input")


@dataclass(frozen=True)
class _Attentions:
    """Both sides, cut to the units that they share."""

    body: CompareAttentionRequest
    seen: tuple[Seen, Seen]
    units: Matched

    @property
    def weights(self) -> list[npt.NDArray[np.float32]]:
        """[L, H, U, U] each."""
        places = [[pair[side] for pair in self.units] for side in (0, 1)]
        return [seen.reduced()[:, :, own][..., own] for seen, own in zip(self.seen, places, strict=True)]

    def json(self) -> bytes:
        left, right = self.weights
        difference = right - left
        answer = AttentionComparison(
            left=self.seen[0].header(),
            right=self.seen[1].header(),
            matched=self.units,
            moved=np.round(np.abs(difference).sum(-1).mean(-1).astype(np.float64) / 2, DIGITS).tolist(),
            largest=self._largest(left, right),
            difference=[],
        )
        return (
            answer.model_dump_json(exclude={"difference"}).encode()[:-1]
            + b',"difference":'
            + (nested_json(difference) + b"}")
        )

    def _largest(self, left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> list[AttentionChange]:
        sizes = np.abs(right - left)
        order = np.argsort(-sizes, axis=None, kind="stable")[:NUM_LARGEST]
        changes = []
        for layer, head, row, column in zip(*np.unravel_index(order, sizes.shape), strict=True):
            place = (layer, head, row, column)
            changes.append(
                AttentionChange(
                    layer=self.seen[0].layers[layer],
                    head=self.seen[0].heads[head],
                    looks=self.units[row],
                    looked_at=self.units[column],
                    left=round(float(left[place]), DIGITS),
                    right=round(float(right[place]), DIGITS),
                )
            )
        return changes

    def picture(self) -> Picture:
        wholes = [seen.picture() for seen in self.seen]
        shown = [[whole.labels[pair[side]] for pair in self.units] for side, whole in enumerate(wholes)]
        tokens = [self.seen[1].units[place].text for _, place in self.units]  # which both sides have
        labels = [token if left != right else left for left, right, token in zip(*shown, tokens, strict=True)]
        sides = [
            Picture(weights, labels, seen.layers, seen.heads, whole.title, whole.note, whole.meaning)
            for seen, weights, whole in zip(self.seen, self.weights, wholes, strict=True)
        ]
        return difference_of(sides[0], sides[1], _names(self.body), _title(self.body))


ATTENTION: dict[str, Callable[[_Attentions], bytes]] = {
    "image/png": lambda both: attention_png(both.picture()),
    "image/svg+xml": lambda both: attention_svg(both.picture()),
    JSON: lambda both: both.json(),
}


@router.post("/explain/compare", response_model=ExplainComparison, responses=RESPONSES)
async def compare_explanations(
    body: CompareExplainRequest, request: Request, parts: PartsOf, caller: CallerOf
) -> Response:
    """The scores of both sides for one target, and what changed."""
    options = body.model_dump(exclude={"left", "right"})
    asked = [ExplainRequest(model=side.model, input=side.input, **options) for side in (body.left, body.right)]
    explanation = await explained(asked[0], parts, caller)
    label = None
    if body.target is None:
        label = await _answer_of(explanation, await parts.model(body.right.model, caller.owner), body.right.model)
    left, right = explanation.answer, (await explained(asked[1], parts, caller, label)).answer
    form = chosen_form(request, ATTENTION)
    if form == JSON:
        return formed(_compared(left, right).model_dump_json(), JSON)
    first, second = saliency_of(asked[0], left), saliency_of(asked[1], right)
    names = (f"left: {_names(body)[0]}", f"right: {_names(body)[1]}")
    picture = StripsPicture(f"{_title(body)} · {body.method.replace('_', ' ')}", names, first, second)
    content = await asyncio.to_thread(strips_png if form == "image/png" else strips_svg, picture)
    return formed(content, form)


async def _answer_of(left: Explanation, right: LoadedModel, name: str) -> int:
    """What the left answers, as an output of the right. Raises InvalidRequest. A token's text need not be one token
    again: it may be part of a character, or none."""
    writers = left.loaded.config.task == right.config.task == "causal_lm"
    alike = writers and await asyncio.to_thread(left.loaded.tokenizer.same_as, right.tokenizer)
    if alike and left.label < right.config.vocab_size:
        return left.label
    try:
        return output_of(right, left.answer.target, "target")
    except InvalidRequest:
        kind = "one token" if right.config.task == "causal_lm" else f"one of the labels {labels_of(right)}"
        raise InvalidRequest(
            f"no target is named, and the left's answer {left.answer.target[:40]!r} is not {kind} of {name!r}; name a "
            "target that both sides have",
            "target",
        ) from None


def _compared(left: ExplainResponse, right: ExplainResponse) -> ExplainComparison:
    pairs = matched(left.units, right.units)
    before, after = [left.units[ours].score for ours, _ in pairs], [right.units[theirs].score for _, theirs in pairs]
    changes = [b - a for a, b in zip(before, after, strict=True)]
    order = sorted(range(len(pairs)), key=lambda place: -abs(changes[place]))[:NUM_LARGEST]
    return ExplainComparison(
        left=left,
        right=right,
        matched=pairs,
        difference=[round(change, 6) for change in changes],
        agreement=_agreement(before, after),
        largest=[ScoreChange(unit=pairs[place], left=before[place], right=after[place]) for place in order],
    )


def _agreement(before: Sequence[float], after: Sequence[float]) -> float | None:
    if len(before) < 3 or len(set(before)) < 2 or len(set(after)) < 2:
        return None
    return round(float(np.corrcoef(_ranks(before), _ranks(after))[0, 1]), DIGITS)  # Spearman's


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Equal values share the mean of their places. Written out: scipy's takes half as long to load as torch."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks


def _names(body: CompareRequest) -> tuple[str, str]:
    """What tells the sides apart: the models, or where they are one the texts."""
    if body.left.model != body.right.model:
        return body.left.model, body.right.model
    return _shown(body.left), _shown(body.right)


def _shown(side: Side) -> str:
    return side.input if isinstance(side.input, str) else " / ".join(side.input)


def _title(body: CompareRequest) -> str:
    return f"{body.left.model} and {body.right.model}" if body.left.model != body.right.model else body.left.model
