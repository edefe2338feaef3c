"""Training dynamics: what is recorded, what a resumed run restores, where rows lie on the map."""

import numpy as np
import pytest
import torch

from training.dynamics import Dynamics, ambiguous_rows, cartography, hardest_rows


def recorded(epochs: list[list[float]]) -> Dynamics:
    dynamics = Dynamics(len(epochs), len(epochs[0]))
    for epoch, probabilities in enumerate(epochs):
        dynamics.record(epoch, range(len(probabilities)), torch.tensor(probabilities))
    return dynamics


def test_the_map_is_mean_deviation_and_share_right():
    rows = cartography(recorded([[0.25, 0.75, 0.5], [0.75, 0.75, 0.25]]))
    assert rows.confidence.tolist() == [0.5, 0.75, 0.375]
    assert rows.variability.tolist() == [0.25, 0.0, 0.125]
    assert rows.correctness.tolist() == [0.5, 1.0, 0.0]
    assert rows.margin.tolist() == pytest.approx([0.0, np.log(3), np.log(1 / 3) / 2])


def test_steps_record_their_rows_in_any_order():
    dynamics = Dynamics(1, 4)
    dynamics.record(0, [3, 1], torch.tensor([0.875, 0.125]))
    dynamics.record(0, [0, 2], torch.tensor([0.5, 0.25], requires_grad=True))
    assert cartography(dynamics).confidence.tolist() == [0.5, 0.125, 0.25, 0.875]


def test_a_label_may_win_with_less_than_half():
    dynamics = Dynamics(1, 2)
    dynamics.record(0, [0, 1], torch.tensor([0.4, 0.4]), right=torch.tensor([True, False]))
    assert cartography(dynamics).correctness.tolist() == [1.0, 0.0]


def test_unseen_rows_have_no_place_and_are_never_named():
    dynamics = Dynamics(2, 3)
    dynamics.record(0, [0, 1], torch.tensor([0.9, 0.1]))
    rows = cartography(dynamics)
    assert np.isnan(rows.confidence[2])
    assert np.isnan(rows.correctness[2])
    assert rows.correctness[0] == 1.0  # of the epoch that saw it
    assert hardest_rows(rows, 10) == [1, 0]
    assert ambiguous_rows(rows, 10) == [0, 1]


def test_hardest_and_ambiguous_rows_come_first():
    rows = cartography(recorded([[0.9, 0.1, 0.2, 0.5], [0.9, 0.1, 0.9, 0.5]]))
    assert hardest_rows(rows, 2) == [1, 3]
    assert ambiguous_rows(rows, 1) == [2]


def test_restored_dynamics_go_on_as_if_never_interrupted():
    whole = recorded([[0.3, 0.6], [0.7, 0.2]])
    first = Dynamics(2, 2)
    first.record(0, [0, 1], torch.tensor([0.3, 0.6]))
    second = Dynamics(2, 2)
    second.restore({name: tensor.clone() for name, tensor in first.tensors().items()})
    second.record(1, [0, 1], torch.tensor([0.7, 0.2]))
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, second.tensors()[name])


def test_dynamics_of_another_run_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 5\).*\(3, 5\)"):
        Dynamics(3, 5).restore(Dynamics(2, 5).tensors())
