"""AdamW for an embedding table of which a step reads few rows: the rows of the others wait. Used by `optim.py`.

AdamW changes a row also in the steps in which its gradient is zero: its moments fade, and it goes on in the direction
of the last gradients. For a vocabulary of 30,000 that takes longer than a layer, though a batch has a few hundred
different tokens. The skipped changes depend on the row by its moments alone, so they are made up in one go when the row
is read again:

    p_t = p_s D(s, t) - m_s / (sqrt(v_s) + e') U(s, t)
    D(s, t) = product of (1 - lr_j w)
    U(s, t) = sum of lr_j (b1 / sqrt(b2))^(j - s) sqrt(1 - b2^j) / (1 - b1^j) D(j, t)

over the steps j = s + 1 ... t without a gradient. Only Adam's epsilon, which grows against the fading moments, is held
at its value e' of the first of them; the numbers are else those of torch.optim.AdamW up to rounding. Rows are read
within `follow`, which makes up for them; `catch_up` makes up for all.

Shapes: V rows, D width, R rows of a step.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.adamw import AdamW

FADED_STEPS = 300  # until a last gradient's say, 0.9^k, is below the rounding of float32
ROW_STEPS = "row_steps"  # [V] float32 in the state: the step up to which each row is changed


class RowAdamW(AdamW):
    """AdamW over all of `groups`. The weight of `table` waits as said above while its gradients are sparse, as they are
    within `follow`; with a dense gradient the step is the usual one. Torch's state of it has one more field,
    `row_steps`."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        table: nn.Embedding,
        rate_at: Callable[[int], float],  # of the step, counted from 0, before a group's `rate_share`
        **fields: Any,
    ) -> None:
        super().__init__(groups, **fields)
        self._table = table
        self._rate_at = rate_at
        self._scales = _Scales(self._group)
        self._reading = threading.Lock()  # lanes read side by side, and a row is made up for once

    @contextmanager
    def follow(self) -> Iterator[None]:
        """Within, a row is up to date when a training pass reads it, and the table's gradient is sparse."""

        def before(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            if torch.is_grad_enabled():
                with self._reading:
                    self._make_up(torch.unique(arguments[0]))

        handle = self._table.register_forward_pre_hook(before)
        self._table.sparse = True
        try:
            yield
        finally:
            handle.remove()
            self._table.sparse = False

    @torch.no_grad()
    def catch_up(self) -> None:
        """Makes up for all rows, so that anyone may read the table."""
        if state := self._state():
            self._make_up((state[ROW_STEPS] < float(state["step"])).nonzero()[:, 0])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step. A sparse gradient must be coalesced."""
        weight = self._table.weight
        gradient = weight.grad
        if gradient is None or not gradient.is_sparse:
            self.catch_up()
            super().step(closure)
            if state := self._state():
                state[ROW_STEPS].fill_(float(state["step"]))
            return
        weight.grad = None
        super().step(closure)
        state = self._state()
        if state is None:
            self.state[weight] = {"step": torch.zeros(()), ROW_STEPS: torch.zeros(len(weight))}
            self.state[weight] |= {moment: torch.zeros_like(weight) for moment in ("exp_avg", "exp_avg_sq")}
            state = self.state[weight]
        number, group = int(state["step"]) + 1, self._group
        rows, values = gradient._indices()[0], gradient._values()
        self._make_up(rows)
        state["step"] += 1
        first, second = group["betas"]
        m = state["exp_avg"][rows].lerp_(values, 1 - first)
        v = state["exp_avg_sq"][rows].mul_(second).addcmul_(values, values, value=1 - second)
        change = m / ((v / (1 - second**number)).sqrt_().add_(group["eps"]))
        kept = weight[rows].mul_(1 - group["lr"] * group["weight_decay"])
        weight[rows] = kept.sub_(change, alpha=group["lr"] / (1 - first**number))
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = m, v
        state[ROW_STEPS][rows] = float(number)

    @property
    def _group(self) -> dict[str, Any]:
        """Sought anew, since loading a state puts others in the groups' place."""
        weight = self._table.weight
        return next(group for group in self.param_groups if any(one is weight for one in group["params"]))

    def _rate(self, step: int) -> float:
        rate: float = self._rate_at(step) * self._group.get("rate_share", 1.0)
        return rate

    def _state(self) -> dict[str, Tensor] | None:
        """None before the first step."""
        state: dict[str, Tensor] | None = self.state.get(self._table.weight)
        if state and ROW_STEPS not in state:  # begun by AdamW itself
            state[ROW_STEPS] = torch.full((len(self._table.weight),), float(state["step"]))
        return state or None

    @torch.no_grad()
    def _make_up(self, rows: Tensor) -> None:
        """The skipped changes of some rows, up to the last step."""
        state = self._state()
        if state is None:
            return
        number = int(state["step"])
        since = state[ROW_STEPS][rows]
        behind = (since < number).nonzero()[:, 0]
        if not len(behind):
            return
        rows, weight = rows[behind], self._table.weight
        steps, which = np.unique(since[behind].cpu().numpy().astype(np.int64), return_inverse=True)
        scales = torch.from_numpy(self._scales.of(steps, number, self._rate))[which]  # [R, 5]
        decay, along, epsilon, fade, fade_squared = scales.to(weight)[:, :, None].unbind(1)
        m, v = state["exp_avg"][rows], state["exp_avg_sq"][rows]
        weight[rows] = weight[rows].mul_(decay).sub_(m / v.sqrt().add_(epsilon) * along)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = m.mul_(fade), v.mul_(fade_squared)
        state[ROW_STEPS][rows] = float(number)


class _Scales:
    """D, U, e' and the moments' fading, of which all values of a row are multiplied. In float64, from the steps' rates
    alone, so that a resumed run has the same."""

    def __init__(self, group: dict[str, Any]) -> None:
        (self._first, self._second), self._epsilon = group["betas"], group["eps"]
        self._weight_decay = group["weight_decay"]
        self._along = np.zeros(1)  # lr_j sqrt(1 - b2^j) / (1 - b1^j), by j
        self._log_decay = np.zeros(1)  # sum of log(1 - lr_i w) up to j

    def of(self, since: np.ndarray[Any, Any], number: int, rate: Callable[[int], float]) -> np.ndarray[Any, Any]:
        """For rows changed up to the steps `since` [N], each below `number`: D, U, e', b1^k, b2^k [N, 5]."""
        self._extend(number, rate)
        skipped = number - since  # k
        ahead = np.arange(1, min(FADED_STEPS, int(skipped.max())) + 1)  # j - s
        steps = np.minimum(since[:, None] + ahead, number)
        rest = np.exp(self._log_decay[number] - self._log_decay[steps])
        terms = self._along[steps] * (self._first / self._second**0.5) ** ahead * rest
        along = np.where(ahead <= skipped[:, None], terms, 0.0).sum(axis=1)
        epsilon = self._epsilon * np.sqrt((1 - self._second ** (since + 1.0)) / self._second)
        decay = np.exp(self._log_decay[number] - self._log_decay[since])
        return np.stack([decay, along, epsilon, self._first**skipped, self._second**skipped], axis=1)

    def _extend(self, number: int, rate: Callable[[int], float]) -> None:
        known = len(self._along)
        if number < known:
            return
        steps = np.arange(known, 2 * number + 1)
        rates = np.array([rate(int(step) - 1) for step in steps])
        along = rates * np.sqrt(1 - self._second**steps) / (1 - self._first**steps)
        log_decay = self._log_decay[-1] + np.cumsum(np.log1p(-rates * self._weight_decay))
        self._along = np.concatenate([self._along, along])
        self._log_decay = np.concatenate([self._log_decay, log_decay])
