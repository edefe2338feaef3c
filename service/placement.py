"""Which GPU serves and which trains. On a host with several each API process owns one, and a job beside the service
takes one that serves nobody. Used by `app.py` and the job worker.
"""

from dataclasses import dataclass
from typing import Literal

import torch

TrainingGpu = Literal["apart", "shared"]


@dataclass(frozen=True)
class Place:
    """A device, and what is worth telling about it."""

    device: torch.device
    note: str = ""


def serving_device(setting: str, worker: int, gpus: int) -> torch.device:
    """Of the API process with this number, from 1: GPUs go round. 'auto' takes a GPU when there is one."""
    if setting == "cpu" or (setting == "auto" and gpus == 0):
        return torch.device("cpu")
    return torch.device("cuda", (worker - 1) % max(1, gpus))  # without a GPU torch says so


def training_place(setting: str, wanted: TrainingGpu, api_workers: int, gpus: int) -> Place:
    """Of jobs beside a service with so many API processes (0: none on this host). The last GPU, so that it is the one
    that serves nobody as long as there is such a one; when all serve, and are not to be shared, the CPU."""
    if setting == "cpu" or (setting == "auto" and gpus == 0):
        return Place(torch.device("cpu"))
    last = torch.device("cuda", max(0, gpus - 1))
    serving = min(api_workers, gpus)
    if gpus == 0 or serving < gpus or wanted == "shared":
        return Place(last)
    which = "the only GPU serves" if gpus == 1 else f"all {gpus} GPUs serve"
    return Place(
        torch.device("cpu"),
        f"trains on the CPU, since {which}; VITRINE_TRAINING_GPU=shared takes one all the same, or fewer "
        "VITRINE_API_WORKERS leave one free",
    )


def gpu_count() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0
