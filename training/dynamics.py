"""What training saw of each row: the probability of its given label, epoch by epoch, at no extra forward pass.

Recorded by the objectives' losses, kept in the trainer's checkpoint, read by `evaluation/`. A row's mean and deviation
over the epochs place it on the map of Swayamdipta et al. 2020 (Dataset Cartography, section 2): easy, ambiguous or hard
to learn.

Shapes: E epochs, N rows, B rows of one step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.parallel import World

Numbers = npt.NDArray[np.float64]
SMALLEST = 1e-4  # probability told apart from 0, for log-odds: half precision has few steps near 1


class Dynamics:
    """Half precision: a probability is held to 0.0005, and a hundred epochs of a million rows would take 300 MB."""

    def __init__(self, num_epochs: int, num_rows: int) -> None:
        self.probability = torch.full((num_epochs, num_rows), torch.nan, dtype=torch.float16)  # NaN: not seen yet
        self.right = torch.zeros(num_epochs, num_rows, dtype=torch.bool)

    def record(self, epoch: int, rows: Sequence[int], true_probability: Tensor, right: Tensor | None = None) -> None:
        """What one step computed of its rows: the probability of each given label [B], and whether that label was the
        likeliest [B]. Without the latter a probability above a half stands for it, which for two classes is the same.
        """
        index = torch.tensor(rows)
        probability = true_probability.detach().float().cpu()
        self.probability[epoch, index] = probability.half()
        self.right[epoch, index] = probability > 0.5 if right is None else right.detach().cpu()

    def gather(self, world: World) -> None:
        """Takes over what other processes have recorded. In each epoch one of them sees a row."""
        self.probability = world.largest(self.probability.nan_to_num(-1.0))
        self.probability[self.probability < 0] = torch.nan
        self.right = world.largest(self.right.byte()).bool()

    def tensors(self) -> dict[str, Tensor]:
        """All there is to save, by name."""
        return {"probability": self.probability, "right": self.right}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """From what `tensors` gave. Raises ValueError for those of another run."""
        if tensors["probability"].shape != self.probability.shape:
            saved, own = tuple(tensors["probability"].shape), tuple(self.probability.shape)
            raise ValueError(f"the saved dynamics are of {saved} (epochs, rows), this run of {own}; start it anew")
        self.probability.copy_(tensors["probability"])
        self.right.copy_(tensors["right"])


@dataclass(frozen=True)
class Cartography:
    """Where each training row lies; a row that no finished epoch has seen has NaN."""

    confidence: Numbers  # [N] mean probability of the given label over the epochs that saw the row
    variability: Numbers  # [N] its standard deviation
    correctness: Numbers  # [N] share of those epochs in which the given label was the likeliest
    margin: Numbers  # [N] mean log-odds of the given label: below 0 where the model took the side of another


def cartography(dynamics: Dynamics) -> Cartography:
    probability = dynamics.probability.double().numpy()  # [E, N]
    seen = ~np.isnan(probability)
    times = seen.sum(axis=0).astype(np.float64)  # [N]
    times[times == 0] = np.nan
    confidence = np.where(seen, probability, 0.0).sum(axis=0) / times
    squares = np.where(seen, (probability - confidence) ** 2, 0.0).sum(axis=0)
    right = (dynamics.right.numpy() & seen).sum(axis=0)
    margin = np.where(seen, log_odds(np.where(seen, probability, 0.5)), 0.0).sum(axis=0) / times
    return Cartography(confidence, np.sqrt(squares / times), right / times, margin)


def log_odds(probability: Numbers) -> Numbers:
    inside = np.clip(probability, SMALLEST, 1.0 - SMALLEST)
    odds: Numbers = np.log(inside / (1.0 - inside))
    return odds


def hardest_rows(rows: Cartography, count: int) -> list[int]:
    """Those of the lowest confidence, hardest first: the model never came to believe their label."""
    return _first(rows.confidence, count)


def ambiguous_rows(rows: Cartography, count: int) -> list[int]:
    """Those of the highest variability, which teach most about the border between labels."""
    return _first(-rows.variability, count)


def _first(values: Numbers, count: int) -> list[int]:
    """The rows of the smallest values; NaN never, ties in the order of the file."""
    order = np.argsort(values, kind="stable")  # NaN last
    return [int(row) for row in order[:count] if not np.isnan(values[row])]
