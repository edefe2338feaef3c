"""Whether a model's probabilities can be believed: of the answers given at 80%, are 80% right?

Guo et al. 2017 (On Calibration of Modern Neural Networks, section 2). M answers, K bins.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from training.evaluation.ratio import Numbers

NUM_BINS = 15  # as in the paper


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
