"""How many users there are at which moment of a run."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    until: float  # share of the run's time
    users: float  # times the number of users that is asked for


@dataclass(frozen=True)
class Scenario:
    stages: Sequence[Stage]
    may_be_refused: bool = False  # whether a 429 is what it should be, or a failure
    tunes: bool = False  # whether one more user trains models meanwhile


SCENARIOS = {
    "steady": Scenario([Stage(1.0, 1.0)]),
    "ramp": Scenario([Stage(step / 8, step / 4) for step in range(1, 9)]),  # to twice as many, in eight steps
    "spike": Scenario([Stage(0.3, 1.0), Stage(0.6, 10.0), Stage(1.0, 1.0)], may_be_refused=True),
    "soak": Scenario([Stage(1.0, 0.5)], tunes=True),
    "mixed": Scenario([Stage(1.0, 1.0)], tunes=True),
}


def users_at(scenario: Scenario, share: float, users: int) -> int | None:
    """At this share of the time; None when it is over."""
    for stage in scenario.stages:
        if share < stage.until:
            return max(1, round(stage.users * users))
    return None
