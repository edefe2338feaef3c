"""Drift between models: what is only a rotation is none, and what moves is seen where it moves."""

import numpy as np
import pytest
from scipy.spatial import procrustes as scipy_procrustes
from scipy.stats import ortho_group

from model.explain.drift import drift, procrustes


def vectors(texts: int = 12, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(texts, width))


def test_a_rotation_and_a_shift_are_no_drift() -> None:
    first = vectors()
    turned = first @ ortho_group.rvs(8, random_state=1) + 5.0
    found = drift(np.stack([first, turned, first[:, ::-1]]))
    assert found.moved == pytest.approx(0.0, abs=1e-9)
    assert found.cosines == pytest.approx(1.0, abs=1e-9)
    assert found.points[1] == pytest.approx(found.points[0], abs=1e-9)
    assert found.points[2] == pytest.approx(found.points[0], abs=1e-9)


def test_turning_is_that_of_scipy() -> None:
    fixed, moving = (vectors(seed=seed) - vectors(seed=seed).mean(axis=0) for seed in (0, 1))
    ours = procrustes(moving, fixed)
    scaled, theirs, _ = scipy_procrustes(fixed, moving)  # which also scales
    assert ours / np.linalg.norm(ours) == pytest.approx(theirs / np.linalg.norm(theirs), abs=1e-9)
    assert fixed / np.linalg.norm(fixed) == pytest.approx(scaled, abs=1e-9)


def test_the_text_that_moves_is_the_one_whose_vector_changed() -> None:
    first = vectors(texts=40)
    second = first.copy()
    second[7] = -second[7]
    found = drift(np.stack([first, second]))
    assert found.cosines[1].argmin() == 7
    assert found.cosines[1][7] < 0 < np.delete(found.cosines[1], 7).min()
    assert found.moved[0] == 0
    assert 0 < found.moved[1] < 1
    assert np.linalg.norm(found.points[1] - found.points[0], axis=1).argmax() == 7


def test_the_plane_is_that_of_most_variance() -> None:
    flat = np.zeros((3, 10, 6))
    flat[..., [1, 4]] = np.random.default_rng(2).normal(size=(3, 10, 2))
    found = drift(flat)
    assert found.shown == pytest.approx(1.0)
    assert found.points.shape == (3, 10, 2)
    spread = np.linalg.norm(flat[0] - flat[0].mean(axis=0), axis=1)
    assert np.linalg.norm(found.points[0], axis=1) == pytest.approx(spread, abs=1e-9)
    assert 0 < drift(np.stack([vectors(), vectors(seed=3)])).shown < 1


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 2, 4)])
def test_too_little_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 2 models and 3 texts"):
        drift(np.zeros(shape))
