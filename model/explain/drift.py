"""How the vectors of the same texts move from one model to the next, most often over the checkpoints of one training.
Called by the drift route; NumPy alone.

A space of vectors has no up or down of its own: two models that mean the same may differ by a rotation, so that frames
are turned onto each other before they are drawn. Shapes: F frames, P texts, D width.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """Frames as points of one plane."""

    points: Array  # [F, P, 2]
    shown: float  # share of all frames' variance that the plane shows
    moved: Array  # [F]: how far a frame is from the one before it, against that one's size; the first 0
    cosines: Array  # [F, P]: of each text's vector with that of the first frame, both as they are turned


def drift(frames: Array) -> Drift:
    """frames [F, P, D]: vectors of the same P texts by F models of one width.

    Each frame is centred and turned (orthogonal Procrustes, Schönemann 1966) onto the one before it; the plane is that
    of the first two principal components of all frames together. Raises ValueError for fewer than 2 frames or 3 texts.
    """
    count, texts, _ = frames.shape
    if count < 2 or texts < 3:
        raise ValueError(f"{count} models and {texts} texts; drift needs at least 2 models and 3 texts")
    turned = [frames[0] - frames[0].mean(axis=0)]
    for frame in frames[1:]:
        turned.append(procrustes(frame - frame.mean(axis=0), turned[-1]))
    aligned = np.stack(turned)
    flat = aligned.reshape(count * texts, -1)
    axes, shown = _plane(flat)
    steps = np.linalg.norm(np.diff(aligned, axis=0), axis=(1, 2)) / np.linalg.norm(aligned[:-1], axis=(1, 2))
    lengths = np.linalg.norm(aligned, axis=2)
    cosines = (aligned * aligned[0]).sum(axis=2) / np.maximum(lengths * lengths[0], np.finfo(np.float64).tiny)
    return Drift((flat @ axes).reshape(count, texts, 2), shown, np.concatenate([[0.0], steps]), cosines)


def procrustes(moving: Array, fixed: Array) -> Array:
    """moving [P, D], turned or mirrored so that the squared distance to fixed [P, D] is least."""
    left, _, right = np.linalg.svd(moving.T @ fixed)
    turned: Array = moving @ (left @ right)
    return turned


def _plane(centred: Array) -> tuple[Array, float]:
    """centred [N, D] -> the first two principal axes [D, 2], each with the sign that makes its largest number positive,
    and the share of the variance that they hold."""
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    first = axes[:2]
    signs = np.sign(first[np.arange(len(first)), np.abs(first).argmax(axis=1)])
    first = first * signs[:, None]
    if len(first) < 2:  # vectors of width 1
        first = np.concatenate([first, np.zeros_like(first)])
    variance = sizes**2
    return first.T, float(variance[:2].sum() / max(variance.sum(), np.finfo(np.float64).tiny))
