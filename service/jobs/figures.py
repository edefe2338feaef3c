"""What the jobs come to at one moment. Read by `store.py`, told to Prometheus by `service/metrics.py`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class JobFigures:
    """All jobs of all owners; 0 where nothing runs."""

    by_state: Mapping[str, int]
    training_loss: float = 0.0  # of the running job
    tokens_per_second: float = 0.0
    silent_seconds: float = 0.0  # since that running job told of anything which has been silent longest
    overdue_seconds: float = 0.0  # since the lease of a dead worker ended that nobody has taken over
