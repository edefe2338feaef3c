"""Several attributions of the same texts, each held against the same chance. Called by the command that compares them
and by its benchmark.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from model.batch import pad
from model.explain.faithfulness import Faithfulness, Trial, faithfulness_of_each
from model.explain.methods import Explain
from model.explain.target import Target
from model.explain.text_input import answers_to
from model.heads import TextModel
from model.tokenizer import Encoding


@dataclass(frozen=True)
class Judged:
    """One method's attribution of one text."""

    faithfulness: Faithfulness
    seconds: float  # that the attribution took


def compare(
    model: TextModel, encodings: Iterable[Encoding], methods: Mapping[str, Explain], replacement: int, trial: Trial
) -> Iterator[dict[str, Judged]]:
    """For each text the figures of each method, explaining the answer that the model gives. All methods of a text stand
    against the same random rankings, each text against its own."""
    for index, encoding in enumerate(encodings):
        target, scores, seconds = predicted(model, encoding), [], []
        for explain in methods.values():
            began = time.perf_counter()
            scores.append(explain(model, encoding, target).scores)
            seconds.append(time.perf_counter() - began)
        own = replace(trial, seed=trial.seed + index)
        judged = faithfulness_of_each(model, encoding, target, scores, replacement, own)
        yield {name: Judged(*pair) for name, pair in zip(methods, zip(judged, seconds, strict=True), strict=True)}


def predicted(model: TextModel, encoding: Encoding) -> Target:
    """The label with the greatest logit: of a regression model the only one, of one that writes the next token."""
    device = model.stack.embeddings.token.weight.device
    with torch.inference_mode():
        return Target(int(answers_to(model, pad([encoding], model.config.pad_id).to(device))[0].argmax()))
