"""Whose turn it is: the order of waiting jobs. Pure Python, used by `store.py`.

The highest priority first. Among equals the owner with the fewest running jobs, then the one who was served longest
ago: who submits a hundred jobs delays nobody's first. An owner's own jobs run by age.
"""

import heapq
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """One job that waits."""

    id: str
    owner: str | None
    priority: int
    created_at: float


def in_turn(
    waiting: Sequence[Waiting], running: Mapping[str | None, int], served: Mapping[str | None, float | None]
) -> list[str]:
    """The ids in the order in which one worker takes them. `running` counts each owner's jobs, `served` is when each
    was last given a worker (or never)."""
    order: list[str] = []
    last = {owner: at for owner, at in served.items() if at is not None}
    turn = max(last.values(), default=0.0)
    by_priority: dict[int, list[Waiting]] = defaultdict(list)
    for job in waiting:
        by_priority[job.priority].append(job)
    for priority in sorted(by_priority, reverse=True):
        queues: dict[str | None, deque[Waiting]] = defaultdict(deque)
        for job in sorted(by_priority[priority], key=lambda job: (job.created_at, job.id)):
            queues[job.owner].append(job)
        heap = [
            (running.get(owner, 0), last.get(owner, float("-inf")), own[0].created_at, own[0].id, owner)
            for owner, own in queues.items()
        ]
        heapq.heapify(heap)
        while heap:
            busy, _, _, _, owner = heapq.heappop(heap)
            order.append(queues[owner].popleft().id)
            turn += 1.0
            last[owner] = turn
            if queues[owner]:
                head = queues[owner][0]
                heapq.heappush(heap, (busy, turn, head.created_at, head.id, owner))
    return order
