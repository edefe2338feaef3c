"""One number that makes a classifier's probabilities believable: its logits are divided by a temperature that is fitted
on held-out rows (Guo et al. 2017, section 4.2). No answer changes, only how sure it is. Used by `objectives.py`, which
folds it into the head that is served.

Tuning goes on to lower the loss of training rows that are right already, by longer logits, so that on other rows the
model is surer than it is right. The temperature is never below 1, and a normal prior of deviation 1 over its logarithm
keeps a handful of rows from saying much. N rows or words, C classes.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from scipy.optimize import minimize_scalar
from torch import Tensor

from training.data import drawn

HIGHEST = 20.0  # of a model that knows nothing of these rows
MAX_LOGITS = 2**20  # of rows drawn at random, that one is fitted on: 8 MiB a copy
PRIOR_DEVIATION = 1.0  # of the temperature's logarithm

SummedLoss = Callable[[Tensor, Tensor], Tensor]  # logits and targets -> nats, the sum over the rows


def fit_temperature(logits: Tensor, targets: Tensor, loss: SummedLoss) -> float:
    """logits [N, C] of held-out rows and their targets [N, ...] -> what to divide logits by, 1 to 20. 1 leaves them as
    they are: without a row, or where the model is not surer than it is right."""
    rows = drawn(len(logits), max(1, MAX_LOGITS // max(1, logits[:1].numel())))
    some, wanted = (logits, targets) if len(rows) == len(logits) else (logits[rows], targets[rows])
    some = some.double()

    def nats(logarithm: float) -> float:
        told = float(loss(some / math.exp(logarithm), wanted))
        return told + logarithm**2 / (2 * PRIOR_DEVIATION**2)

    found = minimize_scalar(nats, bounds=(0.0, math.log(HIGHEST)), method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x) if found.fun < nats(0.0) else 1.0  # the search never tries its ends


def temperature_of(scores: Mapping[str, Any]) -> float:
    """The temperature among an evaluation's scores; 1 where they have none."""
    return float(scores.get("temperature", 1.0))
