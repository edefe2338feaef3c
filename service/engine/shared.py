"""A batch as the traced requests in it tell of it. Noted by the core that computed it, told by each request when it
has its answer. Used by `engine.py`.

A batch serves many requests, and each shows it among its own spans, so that its time is explained without a look at
another trace. The first of them links to the others, and these to the first: from any request all are two steps away,
and a batch of N requests has no N * N links.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.engine.spans import Trace


@dataclass(frozen=True)
class Pass:
    """One forward pass; of a batch that failed there are several."""

    began: float
    ended: float
    rows: int
    tokens: int
    error: str | None = None


@dataclass(frozen=True)
class Shared:
    """One batch."""

    id: str
    operation: str
    began: float
    ended: float
    rows: int
    tokens: int
    requests: int
    passes: Sequence[Pass]
    members: Sequence[Trace]  # those that are traced, in the order of their rows

    def tell(self, trace: Trace, own_rows: int, model: str, dtype: str) -> None:
        """As one of its members, whose `model` this is: adapters over one base share a batch."""
        others = self.members[1:] if trace is self.members[0] else self.members[:1]
        known = {"batch": self.id, "operation": self.operation, "rows": self.rows, "tokens": self.tokens}
        known |= {"requests": self.requests, "own_rows": own_rows}
        links = [other.place for other in others]
        span = trace.add("batch", self.began, self.ended, known, links=links)
        for one in self.passes:
            known = {"model": model, "dtype": dtype, "rows": one.rows, "tokens": one.tokens}
            trace.add("forward", one.began, one.ended, known, one.error, under=span)
