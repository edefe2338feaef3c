"""How sure a model may be: calibration by hand and its properties, and intervals against the textbook's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.small import few
from training.evaluation.calibration import NUM_BINS, calibration
from training.evaluation.ratio import Ratio, interval, interval_of_difference, mean_of

# Calibration


def test_calibration_by_hand() -> None:
    found = calibration(np.array([0.62, 0.64, 0.95, 1.0]), np.array([True, False, True, True]))
    gap, sure = abs(0.63 - 0.5), abs(0.975 - 1.0)
    assert found["ece"] == pytest.approx((2 * gap + 2 * sure) / 4)
    assert found["mce"] == pytest.approx(gap)
    assert found["mean_confidence"] == pytest.approx(0.8025)
    assert [(item["count"], item["accuracy"]) for item in found["bins"]] == [(2, 0.5), (2, 1.0)]


def test_always_sure_and_wrong_is_an_error_of_one() -> None:
    assert calibration(np.ones(50), np.zeros(50, dtype=bool))["ece"] == 1.0
    assert calibration(np.ones(50), np.ones(50, dtype=bool))["ece"] == 0.0


def test_a_perfectly_calibrated_model_has_an_error_near_zero() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0, 1, 100_000)
    found = calibration(confidence, generator.uniform(0, 1, 100_000) < confidence)
    assert found["ece"] < 0.01
    assert len(found["bins"]) == NUM_BINS


@few
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_stays_in_its_range_and_counts_every_answer(answers: list[tuple[float, bool]]) -> None:
    confidence, right = np.array([a for a, _ in answers]), np.array([b for _, b in answers])
    found = calibration(confidence, right)
    assert 0 <= found["ece"] <= found["mce"] + 1e-12 <= 1 + 1e-9
    assert sum(item["count"] for item in found["bins"]) == len(answers)
    assert found["ece"] >= abs(confidence.mean() - right.mean()) - 1e-9  # gaps of bins can't cancel out
    assert all(item["from"] - 1e-9 <= item["confidence"] <= item["to"] + 1e-9 for item in found["bins"])


# Intervals


def test_the_interval_of_an_accuracy_is_the_textbooks() -> None:
    right = np.array([1.0] * 800 + [0.0] * 200)
    low, high = interval(mean_of(right)) or (0.0, 0.0)
    error = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert low == pytest.approx(0.8 - error, abs=0.004)
    assert high == pytest.approx(0.8 + error, abs=0.004)
    assert interval(mean_of(right)) == [low, high], "the same rows give the same interval"


def test_the_paired_interval_is_narrower_than_that_of_two_samples() -> None:
    generator = np.random.default_rng(1)
    easy = generator.uniform(size=2_000) < 0.7  # rows that both get right
    ours, theirs = easy | (generator.uniform(size=2_000) < 0.2), easy.copy()
    low, high = interval_of_difference(mean_of(ours.astype(float)), mean_of(theirs.astype(float))) or (0.0, 0.0)
    assert 0 < low < ours.mean() - theirs.mean() < high
    apart = 2 * 1.96 * math.sqrt(ours.var() / 2_000 + theirs.var() / 2_000)
    assert high - low < 0.6 * apart


def test_intervals_that_can_not_be_told_are_none() -> None:
    assert interval(mean_of([1.0])) is None
    assert interval(Ratio(np.zeros(5), np.zeros(5))) is None
    assert Ratio(np.zeros(5), np.zeros(5)).value is None
