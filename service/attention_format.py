"""Attention as bytes, `application/vnd.vitrine.attention`: described, with readers, in docs/en/attention-format.md.

A row w is written as whole numbers c with a step s: w is about s * c. Codes are differences of the rounded running sum
of w / s, so that a row's codes add up to a whole number N and s = sum(w) / N keeps the row's sum exact, whatever its
length: rounding each weight alone would lose what lies on many small ones. No weight is off by a step or more.
Called by the attention route, off the event loop.
"""

import json
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

MEDIA_TYPE = "application/vnd.vitrine.attention"
MAGIC, VERSION = b"VATN", 1
MAX_BYTES = 8_000_000  # of one text's weights
LEVELS = (255, 127, 63, 31, 15, 7, 3)  # the largest code; 3 takes 2 bits: 6 x 12 x 512 x 512 stay within MAX_BYTES
SAMPLE = 8  # one row in so many tells beforehand how well a large matrix can be packed


def attention_bytes(weights: npt.NDArray[np.float32], header: dict[str, Any]) -> bytes:
    """weights [L, H, U, U], none negative -> one document, with the most levels that fit MAX_BYTES, or the fewest."""
    for levels in LEVELS:
        if weights.size > MAX_BYTES and SAMPLE * len(_packed(weights[..., ::SAMPLE, :], levels)[0]) > MAX_BYTES:
            continue
        body, steps, codes = _packed(weights, levels)
        if len(body) <= MAX_BYTES:
            break
    else:
        body, steps, codes = _packed(weights, levels)
    error = float(np.abs(steps[..., None] * codes - weights).max())
    fields = header | {"shape": list(weights.shape), "levels": levels, "largest_error": error}
    head = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return MAGIC + struct.pack("<III", VERSION, len(head), len(body)) + head + body


def _packed(
    weights: npt.NDArray[np.float32], levels: int
) -> tuple[bytes, npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    steps, codes = quantised(weights, levels)
    return zlib.compress(steps.astype("<f4").tobytes() + codes.tobytes()), steps, codes


def quantised(weights: npt.NDArray[np.float32], levels: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """weights [..., U] -> steps [...] and codes [..., U] of at most `levels`.

    A row's steps times its codes add up to the row's sum; each weight is off by less than one step, which is at most
    largest / (levels - 1).
    """
    running = np.cumsum(weights, axis=-1, dtype=np.float64)
    total, largest = running[..., -1], weights.max(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        count = np.where(total > 0, np.floor(levels * total / largest), 0.0)  # N, at least `levels`
        steps = np.where(count > 0, total / count, 0.0)
        running = np.where(steps[..., None] > 0, running / steps[..., None], 0.0)
    rounded = np.floor(running + 0.5)
    codes = np.diff(rounded, axis=-1, prepend=0.0)
    return steps.astype(np.float32), codes.astype(np.uint8)
