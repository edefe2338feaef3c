"""Why a model answers as it does, and each step of how: what the looking thread computes for `/v1/explain` and
`/v1/trace`. Knows nothing of HTTP.

Everything here runs on a plain float32 form of the model (`AdapterBank.plain`), whatever it is served in.
Shapes: C answers, T tokens.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.batch import pad
from model.explain.decomposition import decompose
from model.explain.faithfulness import Faithfulness, Trial, faithfulness
from model.explain.gradient import gradient_input, gradient_weighted
from model.explain.integrated import integrated_gradients
from model.explain.masking import replacement_id
from model.explain.occlusion import occlusion
from model.explain.stages import Guess, Stage, guesses, stages
from model.explain.target import Attribution, Target
from model.explain.text_input import answers_to
from model.heads import TextModel
from model.tokenizer import Encoding
from service.engine.runner import LoadedModel
from service.errors import InvalidRequest

Method = Literal["decomposition", "integrated_gradients", "gradient_weighted", "occlusion", "gradient_x_input"]
INTEGRATED_MAX_TOKENS = 1024  # of one forward pass with gradients, which keeps what the backward pass needs

WHOLE = ("scores", "probabilities", "logits", "label_probabilities")  # stages of rows over tokens or labels, no vectors


@dataclass(frozen=True)
class Question:
    """What is to be explained, of one text."""

    method: Method
    label: int | None  # an output of the model; None: what it answers
    against: int | None
    trial: Trial | None  # None: faithfulness is not wanted


@dataclass(frozen=True)
class Explained:
    target: Target
    answers: npt.NDArray[np.float32]  # [C]: probabilities of the labels, or of the vocabulary; regression: the number
    attribution: Attribution
    faithfulness: Faithfulness | None


@dataclass(frozen=True)
class Step:
    """One stage of a forward pass, reduced to what is sent."""

    stage: Stage
    summary: dict[str, float]
    norms: npt.NDArray[np.float32] | None  # length of each vector; None: it has none
    shown: npt.NDArray[np.float32] | None  # vectors cut; None: summaries alone are wanted


@dataclass(frozen=True)
class Cut:
    """Which part of a trace is sent."""

    layers: Collection[int]
    names: Collection[str]  # of stages; empty: all
    columns: int  # numbers of each vector
    max_numbers: int  # in all


class Abandoned(RuntimeError):
    """Nobody waits for the answer any more."""


def explain(loaded: LoadedModel, encoding: Encoding, question: Question, interrupted: Callable[[], bool]) -> Explained:
    """Raises InvalidRequest for a text of special tokens alone, and Abandoned between two of its many forward passes
    once it is interrupted."""
    model = _watched(loaded.bank.plain(loaded.slot), interrupted)
    replacement = replacement_id(loaded.tokenizer, model.config)
    try:
        answers = _answers(model, encoding)
        label = int(answers.argmax()) if question.label is None else question.label
        if label == question.against:
            raise InvalidRequest(
                "against is what the model answers; choose another label to compare it with, or name a target",
                "against",
            )
        target = Target(label, question.against)
        found = METHODS[question.method](model, encoding, target, replacement)
        trust = None
        if question.trial is not None:
            trust = faithfulness(model, encoding, target, found.scores, replacement, question.trial)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
    return Explained(target, answers, found, trust)


def _watched(model: TextModel, interrupted: Callable[[], bool]) -> TextModel:
    """The same, that stops before the next forward pass."""

    def check(*_: object) -> None:
        if interrupted():
            raise Abandoned

    model.body.layers[0].register_forward_pre_hook(check)
    return model


def _answers(model: TextModel, encoding: Encoding) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        batch = pad([encoding], model.config.pad_id).to(next(model.parameters()).device)
        answers = answers_to(model, batch)[0]
        if model.config.task == "multi_label":
            answers = torch.sigmoid(answers)
        elif model.config.task != "regression":
            answers = torch.softmax(answers, dim=-1)
        shown: npt.NDArray[np.float32] = answers.cpu().numpy()
        return shown


METHODS: dict[Method, Callable[[TextModel, Encoding, Target, int], Attribution]] = {
    "decomposition": lambda model, encoding, target, _: decompose(model, encoding, target),
    "gradient_weighted": lambda model, encoding, target, _: gradient_weighted(model, encoding, target),
    "integrated_gradients": partial(integrated_gradients, max_tokens=INTEGRATED_MAX_TOKENS),
    "occlusion": occlusion,
    "gradient_x_input": lambda model, encoding, target, _: gradient_input(model, encoding, target),
}


def trace(
    loaded: LoadedModel, encoding: Encoding, cut: Cut, num_guesses: int, interrupted: Callable[[], bool]
) -> tuple[list[Step], list[Guess]]:
    """The steps of one text's forward pass and, of a language model, what it would say after each layer.

    Raises InvalidRequest when there would be too many numbers."""
    model = loaded.bank.plain(loaded.slot)
    steps = []
    left = cut.max_numbers
    for stage in _wanted(stages(model, encoding), cut):
        if interrupted():
            raise Abandoned
        step = _step(stage, cut.columns)
        left -= 0 if step.shown is None else step.shown.size
        if left < 0:
            raise InvalidRequest(
                f"the stages have more than {cut.max_numbers:,} numbers; choose fewer layers, stages or columns, or a "
                "shorter text"
            )
        steps.append(step)
    found = guesses(model, encoding, num_guesses)
    return steps, [guess for guess in found if guess.layer == 0 or guess.layer - 1 in cut.layers]


def _wanted(found: Iterator[Stage], cut: Cut) -> Iterator[Stage]:
    names = set()
    for stage in found:
        names.add(stage.name)
        if (stage.layer is None or stage.layer in cut.layers) and (not cut.names or stage.name in cut.names):
            yield stage
    if unknown := [name for name in cut.names if name not in names]:
        raise InvalidRequest(f"stage {unknown[0]!r} is not one of this model's; choose from {sorted(names)}", "stages")


def _step(stage: Stage, columns: int) -> Step:
    values = stage.values
    finite = values[values.isfinite()]
    summary = {
        "min": float(finite.min()),
        "max": float(finite.max()),
        "mean": float(finite.mean()),
        "std": float(finite.std(correction=0)),
    }
    if stage.name in WHOLE:
        return Step(stage, summary, None, _numbers(values) if columns else None)
    return Step(stage, summary, _numbers(values.norm(dim=-1)), _numbers(values[..., :columns]) if columns else None)


def _numbers(values: Tensor) -> npt.NDArray[np.float32]:
    numbers: npt.NDArray[np.float32] = values.numpy()
    return numbers


def nested(numbers: npt.NDArray[np.float32], digits: int) -> Any:
    """Lists for JSON, which has no infinity: a score that a causal model hides is None."""
    rounded = np.round(numbers.astype(np.float64), digits)
    hidden = ~np.isfinite(rounded)
    if not hidden.any():
        return rounded.tolist()
    shown = rounded.astype(object)
    shown[hidden] = None
    return shown.tolist()


def unit_scores(scores: Tensor, members: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
    """Scores of tokens [T] -> of units [U], each the sum of its tokens'; what several units share is split evenly."""
    shares = np.zeros(len(scores))
    for tokens in members:
        shares[list(tokens)] += 1.0
    each = scores.double().numpy() / np.maximum(shares, 1.0)
    return np.array([each[list(tokens)].sum() for tokens in members])
