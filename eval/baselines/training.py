"""What the baselines learn from: the database's features and labels, with mean and covariance."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array

TINY = 1e-12  # a shorter row is that of the mean itself, and stays as it is
ROWS_PER_PIECE = 8192  # of float32 features that are in memory as float64


class Training(NamedTuple):
    """Features (N, F) float32 with labels; mean (F,) and covariance (F, F) float64.

    labels: (N,) int32, or (N, L) uint8 of 0 and 1.
    """

    features: np.ndarray
    labels: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


Encode = Callable[[np.ndarray], np.ndarray]  # features (n, F) float32 -> bits (n, bits) bool
Learn = Callable[[Training, int, np.random.Generator], tuple[Encode, dict]]


def training_set(features: np.ndarray, labels: np.ndarray) -> Training:
    """Return the Training of features (N, F) float32 and their labels."""
    mean = features.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    for piece in pieces(features):
        centred = piece - mean
        scatter += centred.T @ centred
    return Training(features, labels, mean, scatter / len(features))


def members(labels: np.ndarray) -> np.ndarray:
    """Return which labels rows have, (N, C) bool, a column for each one that occurs."""
    if labels.ndim == 2:
        return labels[:, labels.any(axis=0)] > 0
    return labels[:, None] == np.unique(labels)


def share_labels(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which rows have a label in common with their other, (n,) bool; both as `members`'."""
    if labels.ndim == 2:
        return np.any(labels & others, axis=1)
    return labels == others


class Affinity(NamedTuple):
    """What Y = 2 B T B' - 1 1' says of N rows that have G different combinations of labels.

    combination: (N,) int64, of each row. columns: B, (N, G) sparse float64, 1 in the column of a
    row's combination. shared: T, (G, G) float64, 1 where two combinations have a label in common.
    """

    combination: np.ndarray
    columns: csr_array
    shared: np.ndarray

    def times(self, z: np.ndarray) -> np.ndarray:
        """Return Y z for z (N,) or (N, k)."""
        return 2 * self.columns @ (self.shared @ (self.columns.T @ z)) - z.sum(axis=0)


def affinity(labels: np.ndarray) -> Affinity:
    """Return Y of labels (N,), or (N, L) of 0 and 1: 1 for rows that share one, else -1."""
    distinct, combination = np.unique(members(labels), axis=0, return_inverse=True)
    ones = np.ones(len(combination))
    columns = csr_array((ones, (np.arange(len(ones)), combination)), (len(ones), len(distinct)))
    distinct = distinct.astype(np.float64)
    return Affinity(combination, columns, (distinct @ distinct.T > 0).astype(np.float64))


def signs(values: np.ndarray) -> np.ndarray:
    """Return 1 where values are positive, else -1, as float64."""
    return np.where(values > 0, 1.0, -1.0)


def principal_axes(training: Training, count: int) -> np.ndarray:
    """Return the `count` unit axes (F, count) float64 of most variance, most first: PCA.

    count: at most F.
    """
    size = len(training.mean)
    return eigh(training.covariance, subset_by_index=[size - count, size - 1])[1][:, ::-1]


def projected(training: Training, axes: np.ndarray) -> np.ndarray:
    """Return the centred features along axes (F, d), as (N, d) float64."""
    return np.concatenate([(piece - training.mean) @ axes for piece in pieces(training.features)])


def unit_rows(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return features (n, F) less their mean, each row brought to unit length, as float64."""
    centred = features - mean
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), TINY)


def pieces(features: np.ndarray) -> Iterator[np.ndarray]:
    """Yield features (N, F) in pieces of at most ROWS_PER_PIECE rows."""
    for start in range(0, len(features), ROWS_PER_PIECE):
        yield features[start : start + ROWS_PER_PIECE]
