"""The temperature that makes probabilities believable: what is fitted, and what few rows may say. That it is served:
`test_training_tasks.py`."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tests.small import few
from training.evaluation.calibration import with_logits_times
from training.temperature import HIGHEST, MAX_LOGITS, fit_temperature, temperature_of

CLASSES = functools.partial(F.cross_entropy, reduction="sum")
LABEL_SETS = functools.partial(F.binary_cross_entropy_with_logits, reduction="sum")


def answers(logits: torch.Tensor) -> torch.Tensor:
    """Classes drawn by these very probabilities [N, C] -> [N]."""
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=torch.Generator().manual_seed(1))[:, 0]


def honest_logits(rows: int, classes: int = 3) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("too_long", [1.5, 3.0, 8.0])
def test_logits_that_are_too_long_get_the_very_factor(too_long: float) -> None:
    logits = honest_logits(20_000)
    assert fit_temperature(logits * too_long, answers(logits), CLASSES) == pytest.approx(too_long, rel=0.05)


def test_of_label_sets_too() -> None:
    logits = honest_logits(10_000, 4)
    given = torch.bernoulli(logits.sigmoid(), generator=torch.Generator().manual_seed(2))
    assert fit_temperature(logits * 2, given, LABEL_SETS) == pytest.approx(2.0, rel=0.05)


def test_an_honest_or_modest_model_is_left_as_it_is() -> None:
    logits = honest_logits(20_000)
    targets = answers(logits)
    assert fit_temperature(logits, targets, CLASSES) == pytest.approx(1.0, abs=0.03)
    assert fit_temperature(logits / 2, targets, CLASSES) == 1.0, "it never makes a model surer"
    assert fit_temperature(logits, logits.argmax(dim=-1), CLASSES) == 1.0, "all rows right"


def test_one_row_says_little_and_a_model_that_knows_nothing_gets_no_more_than_the_highest() -> None:
    sure_and_wrong = torch.tensor([[6.0, -6.0]])
    assert 1.0 < fit_temperature(sure_and_wrong, torch.tensor([1]), CLASSES) < 6.0
    many = sure_and_wrong.expand(5_000, 2) * 100
    assert fit_temperature(many, torch.ones(5_000, dtype=torch.long), CLASSES) == pytest.approx(HIGHEST, rel=0.01)


def test_of_very_many_logits_those_of_evenly_spaced_rows_are_read() -> None:
    logits = honest_logits(MAX_LOGITS - 1) * 3  # of three classes
    targets = answers(logits / 3)
    logits[1::3], logits[2::3] = 1e6, -1e6  # never looked at
    assert fit_temperature(logits, targets, CLASSES) == pytest.approx(3.0, rel=0.05)


def test_scores_without_a_temperature_have_1() -> None:
    assert temperature_of({"loss": 0.5}) == 1.0
    assert temperature_of({"temperature": 1.5}) == 1.5


@few
@given(st.lists(st.floats(-8, 8), min_size=2, max_size=6), st.floats(1, 5))
def test_probabilities_are_taken_back_to_longer_logits(logits: list[float], factor: float) -> None:
    tensor = torch.tensor(logits, dtype=torch.float64)
    before = with_logits_times(factor, (tensor / factor).softmax(dim=-1).numpy())
    assert np.allclose(before, tensor.softmax(dim=-1).numpy(), atol=1e-9)


def test_certainty_has_no_logarithm_and_stays_certain() -> None:
    assert with_logits_times(3.0, np.array([1.0, 0.0])).tolist() == [1.0, 0.0]
