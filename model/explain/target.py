"""What of a model's answer is explained: one label's logit, alone or against another's. Used by all attributions.

Shapes: B batch, T tokens, C classes.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Target:
    """The logit of a label, or how far it is above that of another. A regression model has the one label 0; of a causal
    language model the label is the token that may come next."""

    label: int
    against: int | None = None

    def value(self, logits: Tensor) -> Tensor:
        """logits [..., C] -> [...]."""
        own = logits[..., self.label]
        return own if self.against is None else own - logits[..., self.against]


@dataclass(frozen=True)
class Attribution:
    """How much each token of one text speaks for the target (above zero) or against it."""

    scores: Tensor  # [T] float32, special tokens included
    value: float  # of the target, as the model gave it for the whole text
    rest: float | None = None  # value less baseline less the sum of scores; None: they make no claim to add up
    baseline: float = 0.0  # the target's value that the scores start from
