"""Whether a job can fit into this machine at all, told before it is queued. Used by `routes/jobs.py`.

A bound from below, from the base's size alone: weights, gradients and AdamW's two moments, beside what the process
itself holds. What rows add is measured when the run begins, which takes fewer at once where memory is short: see
`training/memory.py`.
"""

from pathlib import Path

import psutil

from service.errors import InvalidRequest

PROCESS_BYTES = 600 * 2**20  # of a worker that has imported torch and read its rows
COPIES = {"full": 4, "lora": 1}  # of the weights: of an adapter the gradients and moments are small
CONTROL_GROUP = Path("/sys/fs/cgroup/memory.max")


def check_room(base: str, weights_bytes: int, adapter: str, machine_bytes: int) -> None:
    """Raises InvalidRequest when the run can't fit. An adapter of "auto" may become a small one."""
    kind = "lora" if adapter == "auto" else adapter
    needed = PROCESS_BYTES + COPIES[kind] * weights_bytes
    if needed > machine_bytes:
        remedy = "choose adapter 'lora' or a smaller base" if kind == "full" else "choose a smaller base"
        raise InvalidRequest(
            f"tuning {base!r} needs at least {needed / 2**30:.1f} GiB, this machine has "
            f"{machine_bytes / 2**30:.1f} GiB; {remedy}",
            "adapter",
            "not_enough_memory",
        )


def machine_memory(control_group: Path = CONTROL_GROUP) -> int:
    """Bytes of this machine, or of its container when that has less."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = control_group.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total
