"""Whether a model's probabilities can be believed: of the answers given at 80%, are 80% right?

Guo et al. 2017 (On Calibration of Modern Neural Networks, section 2). M answers, K bins.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from training.evaluation.ratio import Numbers

NUM_BINS = 15  # as in the paper
LEAST = 1e-300  # a probability that is zero has no logarithm


def with_logits_times(factor: float, probabilities: Numbers) -> Numbers:
    """Probabilities of classes [..., C] as they were if all logits were multiplied: each to this power, made to sum to
    1. A factor of 1 changes nothing."""
    if factor == 1.0:
        return probabilities
    powers = factor * np.log(np.maximum(probabilities, LEAST))
    shares = np.exp(powers - powers.max(axis=-1, keepdims=True))
    normalised: Numbers = shares / shares.sum(axis=-1, keepdims=True)
    return normalised


def calibration(confidence: Numbers, right: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """confidence [M] in 0 to 1 and whether each answer was right [M] -> errors, and the bins of a reliability diagram.

    ECE is the mean gap between confidence and accuracy over bins of equal width, weighted by answers; MCE the largest
    gap. A bin without answers has none.
    """
    bins = np.minimum((confidence * NUM_BINS).astype(np.int64), NUM_BINS - 1)  # [M]; 1.0 falls into the last
    counts = np.bincount(bins, minlength=NUM_BINS)  # [K]
    used = counts > 0
    mean_confidence = np.bincount(bins, weights=confidence, minlength=NUM_BINS)[used] / counts[used]
    accuracy = np.bincount(bins, weights=right.astype(np.float64), minlength=NUM_BINS)[used] / counts[used]
    gaps = np.abs(mean_confidence - accuracy)
    return {
        "ece": float((gaps * counts[used]).sum() / counts.sum()),
        "mce": float(gaps.max()),
        "mean_confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "answers": int(counts.sum()),
        "bins": [
            {
                "from": int(number) / NUM_BINS,
                "to": (int(number) + 1) / NUM_BINS,
                "count": int(counts[number]),
                "confidence": float(sure),
                "accuracy": float(share),
            }
            for number, sure, share in zip(np.flatnonzero(used), mean_confidence, accuracy, strict=True)
        ],
    }
