"""Models and texts to explain, and what the tests of attributions share."""

import dataclasses
from collections.abc import Callable, Iterator
from unittest.mock import patch

from hypothesis import strategies as st
from torch import Tensor

from model.batch import Batch, pad
from model.explain.target import Target
from model.heads import TextModel
from model.tokenizer import Encoding, Marks
from model.transformer import Trace
from tests.small import VOCABULARY, configs, random_model, small_config

CLOSE = 1e-5
MASK = 4
LABELS = ("a", "b", "c")
seeds = st.integers(0, 1000)
targets = st.sampled_from([Target(0), Target(2), Target(1, against=0)])
bodies = st.lists(st.integers(5, VOCABULARY - 1), min_size=1, max_size=8)


def framed(body: list[int]) -> Encoding:
    """A text between two special tokens, as BERT reads it."""
    special = (True, *[False] * len(body), True)
    count = len(special)
    marks = Marks(("",) * count, ((0, 0),) * count, (0,) * count, special, (-1,) * count)
    return dataclasses.replace(Encoding.of_ids([2, *body, 3]), make_marks=lambda: marks)


@st.composite
def classifiers(draw: st.DrawFn) -> TextModel:
    """Of texts, or of what comes next."""
    config = draw(configs("encoder", "decoder"))
    if config.architecture == "decoder" and draw(st.booleans()):
        return random_model(config.with_task("causal_lm"), draw(seeds))
    pooling = draw(st.sampled_from(["mean", "first", "last"]))
    pooler = draw(st.sampled_from(["none", "tanh"]))
    return random_model(config.with_task("classification", LABELS, pooling, pooler), draw(seeds))


def smooth(architecture: str = "encoder", seed: int = 0, **fields: object) -> TextModel:
    usual = {"task": "classification", "labels": LABELS, "norm_embeddings": True, "num_segments": 2}
    return random_model(small_config(architecture, **(usual | fields)), seed)


def logits_of(model: TextModel, batch: Batch) -> Tensor:
    if model.config.task == "causal_lm":
        return model.vocabulary_logits(model.decoder(batch)[:, -1])
    return model.classify(batch)


def value_of(model: TextModel, encoding: Encoding, target: Target) -> float:
    return float(target.value(logits_of(model, pad([encoding], 0))[0]))


def without(encoding: Encoding, places: set[int]) -> Encoding:
    ids = tuple(MASK if place in places else number for place, number in enumerate(encoding.ids))
    return dataclasses.replace(encoding, ids=ids)


def over_ids(model: TextModel, encoding: Encoding, target: Target) -> Callable[[Tensor], Tensor]:
    """ids [R, T] -> the target's value [R], the way Captum wants it."""
    text = pad([encoding], 0)

    def forward(ids: Tensor) -> Tensor:
        segments, positions, documents = (
            part.expand_as(ids) for part in (text.segments, text.positions, text.documents)
        )
        return target.value(logits_of(model, Batch(ids, segments, positions, documents)))

    return forward


def counted_passes() -> Iterator[list[int]]:
    """Token counts of the forward passes made while the test runs."""
    seen: list[int] = []
    whole, embedded = TextModel.classify, TextModel.classify_embedded

    def classify(self: TextModel, batch: Batch) -> Tensor:
        seen.append(batch.num_tokens)
        return whole(self, batch)

    def classify_embedded(self: TextModel, vectors: Tensor, batch: Batch, trace: Trace | None = None) -> Tensor:
        seen.append(batch.num_tokens)
        return embedded(self, vectors, batch, trace)

    with patch.multiple(TextModel, classify=classify, classify_embedded=classify_embedded):
        yield seen
