"""ITQ, iterative quantization, on the axes of PCA or of CCA.

Gong and Lazebnik, "Iterative quantization: a Procrustean approach to learning binary codes",
CVPR 2011.

V = XW are the centred features along K axes. Of all rotations R, one is sought with a small
quantization error Q(B, R) = |B - VR|^2 (Frobenius; eq. 2), B = sgn(VR): alternately B is set for a
fixed R, and R by orthogonal Procrustes for a fixed B; neither step can raise Q. The axes are those
of PCA (section 2.1), or those of CCA with the labels (section 4).
"""

import numpy as np
from scipy.linalg import eigh, solve

from eval.baselines.training import Encode, Training, members, principal_axes, projected

ITERATIONS = 50  # section 2.2
RIDGE = 1e-4  # rho of eq. 4


def learn(training: Training, bits: int, random: np.random.Generator) -> tuple[Encode, dict]:
    """Learn ITQ on the principal axes; record the quantization error of each iteration."""
    return _learn_on(training, principal_axes(training, bits), random)


def learn_with_labels(
    training: Training, bits: int, random: np.random.Generator
) -> tuple[Encode, dict]:
    """Learn CCA-ITQ, on the canonical axes of features and labels; record what `learn` does."""
    return _learn_on(training, canonical_axes(training, bits), random)


def canonical_axes(training: Training, count: int) -> np.ndarray:
    """Return axes (F, count) float64 of the features, most correlated with the labels first.

    Solves Cxy (Cyy + rho I)^-1 Cyx w = lambda^2 (Cxx + rho I) w (eq. 4), with labels as rows of 0
    and 1, one or several of them 1. An axis has the length that gives it variance lambda^2, as in
    the authors' code. C labels have at most C such axes, C - 1 where each row has as many as any
    other, one, say; the others have lambda = 0 and are zero, so that the rotation alone spreads
    what there is over all bits.
    """
    carried = members(training.labels)
    rows, labels = carried.shape
    share = carried.sum(axis=0) / rows
    means = [training.features[of].mean(axis=0, dtype=float) for of in carried.T]
    between = (np.stack(means, axis=1) - training.mean[:, None]) * share  # Cxy
    ones = carried.astype(np.float32)  # whose products count, exactly
    together = (ones.T @ ones).astype(np.float64) / rows
    of_labels = together - np.outer(share, share) + RIDGE * np.eye(labels)
    explained = between @ solve(of_labels, between.T, assume_a="pos")
    size = len(training.mean)
    squared, axes = eigh(
        (explained + explained.T) / 2,
        training.covariance + RIDGE * np.eye(size),
        subset_by_index=[size - count, size - 1],
    )
    correlations = np.sqrt(np.maximum(squared[::-1], 0))
    correlations[labels - (np.ptp(carried.sum(axis=1)) == 0) :] = 0
    return axes[:, ::-1] * correlations


def rotation(
    projections: np.ndarray, random: np.random.Generator, iterations: int = ITERATIONS
) -> tuple[np.ndarray, list[float]]:
    """Return a rotation R (K, K) for V (N, K) float64, and the errors |B - VR|^2 on the way.

    The list has iterations + 1 errors: the first is that of the random start, with the best B for
    it.
    """
    bits = projections.shape[1]
    rotated_by = np.linalg.qr(random.standard_normal((bits, bits)))[0]
    errors = []
    for iteration in range(iterations + 1):
        rotated = projections @ rotated_by
        signs = np.where(rotated >= 0, 1.0, -1.0)
        errors.append(float(np.square(signs - rotated).sum()))
        if iteration < iterations:
            left, _, right = np.linalg.svd(signs.T @ projections)
            rotated_by = (left @ right).T
    return rotated_by, errors


def _learn_on(
    training: Training, axes: np.ndarray, random: np.random.Generator
) -> tuple[Encode, dict]:
    rotated_by, errors = rotation(projected(training, axes), random)
    projection = axes @ rotated_by
    return (
        lambda features: (features - training.mean) @ projection >= 0,
        {"quantization_errors": errors},
    )
