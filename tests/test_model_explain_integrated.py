"""Integrated gradients: against Captum, and by their completeness."""

import pytest
import torch
from captum.attr import LayerIntegratedGradients
from hypothesis import given
from hypothesis import strategies as st

from model.explain.integrated import integrated_gradients
from model.explain.target import Target
from model.heads import TextModel
from tests.explained import (
    CLOSE,
    LABELS,
    MASK,
    bodies,
    classifiers,
    counted_passes,
    framed,
    over_ids,
    smooth,
    targets,
    value_of,
    without,
)
from tests.small import few, gap

passes = pytest.fixture(counted_passes)


@few
@given(model=classifiers(), body=bodies, target=targets, steps=st.integers(1, 9), max_tokens=st.integers(1, 60))
def test_integrated_gradients_are_captums(
    model: TextModel, body: list[int], target: Target, steps: int, max_tokens: int
) -> None:
    encoding = framed(body)
    theirs = LayerIntegratedGradients(over_ids(model, encoding, target), model.body.embeddings.token)
    baseline = without(encoding, set(range(1, len(body) + 1)))
    expected, missing = theirs.attribute(
        torch.tensor([encoding.ids]), torch.tensor([baseline.ids]), n_steps=steps, method="gausslegendre",
        return_convergence_delta=True,
    )  # fmt: skip
    found = integrated_gradients(model, encoding, target, MASK, steps, max_tokens)
    size = max(1.0, float(expected.abs().sum()))
    assert gap(found.scores, expected.sum(-1)[0].float()) < CLOSE * size
    assert found.rest == pytest.approx(-float(missing), abs=CLOSE * size), "theirs: sum less difference"
    assert found.value == pytest.approx(value_of(model, encoding, target), abs=CLOSE)
    assert found.baseline == pytest.approx(value_of(model, baseline, target), abs=CLOSE)
    assert found.rest is not None
    assert found.baseline + float(found.scores.sum()) + found.rest == pytest.approx(found.value, abs=CLOSE * size)
    assert found.scores[0] == found.scores[-1] == 0.0, "special tokens stay"


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_the_gap_of_integrated_gradients_shrinks_with_steps(task: str) -> None:
    gaps = dict.fromkeys((1, 4, 16), 0.0)
    for seed in range(5):
        model = smooth(seed=seed, task=task, labels=() if task == "regression" else LABELS).double()
        for steps in gaps:
            rest = integrated_gradients(model, framed([5, 9, 13, 17, 21]), Target(0), MASK, steps).rest
            assert rest is not None
            gaps[steps] += abs(rest)
    assert gaps[1] > 10 * gaps[4] > 100 * gaps[16]
    assert gaps[16] < 1e-4


def test_points_of_the_path_stay_within_the_token_cap(passes: list[int]) -> None:
    model, encoding = smooth(), framed([5, 6, 7, 8])
    few_rows = integrated_gradients(model, encoding, Target(0), MASK, steps=32, max_tokens=20)
    assert max(passes) == 18
    passes.clear()
    assert gap(few_rows.scores, integrated_gradients(model, encoding, Target(0), MASK, steps=32).scores) < CLOSE
    assert max(passes) == 32 * 6
    passes.clear()
    integrated_gradients(model, encoding, Target(0), MASK, steps=3, max_tokens=1)
    assert max(passes) == 6, "a text longer than the cap goes alone"
