"""A short chaos: kills of every kind, on a seeded schedule. `make chaos` makes two hundred."""

import pytest

from tests.chaos import PHASES, run


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_a_kill_amid_each_phase_loses_and_doubles_nothing() -> None:
    told = run(kills=len(PHASES), seed=5)
    assert "all there; each job ended once" in told
    for phase in PHASES:
        assert f"  {phase:10}    1" in told
