"""A forward pass taken apart is the forward pass: every step from those it names, the last ones the model's own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.batch import pad
from model.config import TransformerConfig
from model.explain.stages import Stage, guesses, stages
from model.heads import TextModel, pool
from model.tokenizer import Encoding
from tests.small import VOCABULARY, configs, few, gap, random_model, small_config

CLOSE = 1e-5
rows = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9)
seeds = st.integers(0, 1000)


def parted(model: TextModel, row: list[int]) -> list[Stage]:
    return list(stages(model, Encoding.of_ids(row)))


def named(found: list[Stage], name: str, layer: int | None = None) -> Tensor:
    (stage,) = [stage for stage in found if (stage.name, stage.layer) == (name, layer)]
    return stage.values


@few
@given(config=configs("encoder", "decoder"), row=rows, seed=seeds)
def test_the_steps_are_what_the_model_computes(config: TransformerConfig, row: list[int], seed: int) -> None:
    model = random_model(config.with_task("classification", ("no", "maybe", "yes"), "mean", "tanh"), seed)
    found = parted(model, row)
    batch = pad([Encoding.of_ids(row)], 0)
    trace = model.trace(batch)
    assert gap(named(found, "hidden"), trace.hidden[0][0]) < CLOSE
    for layer in range(config.num_layers):
        assert gap(named(found, "hidden", layer), trace.hidden[layer + 1][0]) < CLOSE
        assert gap(named(found, "probabilities", layer), trace.probabilities[layer][0]) < CLOSE
    hidden = model.body(batch)
    assert gap(named(found, "text_vector"), pool(hidden, batch.real, "mean")[0]) < CLOSE
    assert gap(named(found, "logits"), model.classify(batch)[0]) < CLOSE
    assert gap(named(found, "label_probabilities"), torch.softmax(model.classify(batch)[0], dim=-1)) < CLOSE


@few
@given(config=configs("encoder", "decoder"), row=rows, seed=seeds)
def test_each_step_comes_from_the_steps_it_names(config: TransformerConfig, row: list[int], seed: int) -> None:
    """The formulas that have no weights, done again from the numbers that were shown."""
    known: dict[str, Tensor] = {}
    for stage in parted(random_model(config, seed), row):
        given_ = [known[name] for name in stage.inputs]  # KeyError: a step that is not there yet
        if stage.formula in ("sum", "x + y"):
            assert gap(sum(given_[1:], given_[0]), stage.values) < CLOSE
        elif stage.formula == "softmax":
            assert gap(torch.softmax(given_[0], dim=-1), stage.values) < CLOSE
        elif stage.formula == "P V":
            assert gap(given_[0] @ given_[1], stage.values) < CLOSE
        elif stage.formula.startswith("Q K^T"):
            scores = given_[0] @ given_[1].transpose(-2, -1) / math.sqrt(given_[0].size(-1))
            seen = torch.isfinite(stage.values)
            assert gap(scores[seen], stage.values[seen]) < CLOSE
            assert bool(seen.all()) == (config.architecture == "encoder" or len(row) == 1), "a causal model hides some"
        known[stage.name] = stage.values


def test_shapes_are_as_told() -> None:
    config = small_config("encoder", num_segments=2).with_task("multi_label", ("a", "b", "c"), "first", "none")
    found = parted(random_model(config), [5, 6, 7, 8])
    shapes = {(stage.name, stage.layer): tuple(stage.values.shape) for stage in found}
    assert shapes["token", None] == shapes["segment", None] == shapes["attended", 1] == (4, 16)
    assert shapes["query", 0] == shapes["mixed", 1] == (2, 4, 8)
    assert shapes["scores", 0] == shapes["probabilities", 0] == (2, 4, 4)
    assert shapes["expanded", 0] == shapes["activated", 0] == (4, 24)
    assert shapes["text_vector", None] == (16,)
    assert shapes["logits", None] == shapes["label_probabilities", None] == (3,)
    assert all(stage.values.dtype == torch.float32 for stage in found)


def test_a_tagger_answers_for_every_token() -> None:
    config = small_config("encoder").with_task("tagging", ("O", "B-X"))
    model = random_model(config)
    found = parted(model, [5, 6, 7])
    assert gap(named(found, "logits"), model.tag(pad([Encoding.of_ids([5, 6, 7])], 0))[0]) < CLOSE


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_the_last_guess_is_what_the_model_says(architecture: str) -> None:
    model = random_model(small_config(architecture, norm_first=architecture == "decoder"))
    encoding = Encoding.of_ids([5, 6, 7, 8])
    found = guesses(model, encoding, 3)
    assert [guess.layer for guess in found] == [0, 1, 2]
    likely = torch.softmax(model.vocabulary_logits(model.body(pad([encoding], 0))[0]), dim=-1)
    assert torch.equal(found[-1].ids, likely.topk(3).indices)
    assert gap(found[-1].probabilities, likely.topk(3).values) < CLOSE
    assert gap(found[0].probabilities, found[-1].probabilities) > 1e-3, "earlier layers guess otherwise"


def test_a_model_without_a_vocabulary_makes_no_guess_and_an_encoder_decoder_is_refused() -> None:
    assert guesses(random_model(small_config("encoder", task="embeddings")), Encoding.of_ids([5]), 3) == []
    with pytest.raises(ValueError, match="encoder-decoder has no single stack"):
        parted(random_model(small_config("encoder_decoder")), [5, 6])
