"""Occlusion, and how variants of a text are evaluated."""

import statistics
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.explain.faithfulness import Trial, faithfulness
from model.explain.masking import replacement_id
from model.explain.occlusion import occlusion
from model.explain.target import Target
from model.heads import TextModel
from model.tokenizer import train_byte_bpe, train_wordpiece
from tests.explained import CLOSE, MASK, bodies, classifiers, counted_passes, framed, smooth, targets, value_of, without
from tests.small import few, gap, small_config

passes = pytest.fixture(counted_passes)


@few
@given(model=classifiers(), body=bodies, target=targets, window=st.integers(1, 3), max_tokens=st.integers(1, 60))
def test_occlusion_equals_each_masked_text_alone(
    model: TextModel, body: list[int], target: Target, window: int, max_tokens: int
) -> None:
    encoding, window = framed(body), min(window, len(body))
    whole = value_of(model, encoding, target)
    losses: list[list[float]] = [[] for _ in encoding.ids]
    for start in range(1, len(body) - window + 2):
        places = set(range(start, start + window))
        for place in places:
            losses[place].append(whole - value_of(model, without(encoding, places), target))
    found = occlusion(model, encoding, target, MASK, window, max_tokens)
    expected = torch.tensor([statistics.fmean(each) if each else 0.0 for each in losses])
    assert gap(found.scores, expected) < CLOSE
    assert found.scores[0] == found.scores[-1] == 0.0
    assert found.value == pytest.approx(whole, abs=CLOSE)
    assert found.rest is None


def test_equal_variants_are_evaluated_once_and_together(passes: list[int]) -> None:
    model = smooth()
    occlusion(model, framed([5, 6, 7, 8]), Target(0), MASK, max_tokens=12)
    assert passes == [12, 12, 6], "the whole text and four variants of six tokens"
    passes.clear()
    faithfulness(model, framed([5, 6, 7, 8]), Target(0), torch.arange(6.0), MASK, Trial(beam_width=0))
    assert len(passes) == 1, "five shares of twenty-one rankings, twice"
    assert passes[0] <= 6 * 2**4


def test_what_stands_for_a_missing_token() -> None:
    words = train_wordpiece(["red green blue"] * 5, 60)
    pieces = train_byte_bpe(["red green blue"] * 5, 300)
    config = small_config("encoder", pad_id=7)
    assert replacement_id(words, config) == words.id_of("[MASK]")
    assert replacement_id(pieces, config) == 7
    with patch.object(type(words), "mask_token", None):
        assert replacement_id(words, config) == words.unknown_id
