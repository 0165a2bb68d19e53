"""Classification into several labels: average precision of each label, and F1.

The labels that are predicted are those of probability above THRESHOLD.

- average precision ranks the pictures by the label's probability and sums the precisions at each
  probability, weighted by the share of the label's pictures there: equal probabilities count as one
  rank (scikit-learn's `average_precision_score`). Its mean over the labels is the mAP of PASCAL
  VOC's and MS COCO's classification tasks, without interpolation.
- F1 is the harmonic mean of precision and recall, 0 where nothing is found. Macro F1 is its mean
  over the labels, micro F1 that of the counts of all labels together (Yang, "An evaluation of
  statistical approaches to text categorization", Information Retrieval 1999).

Means over the labels are over those that some picture carries.
"""

import math
from typing import NamedTuple

import numpy as np

THRESHOLD = 0.5


class LabelScores(NamedTuple):
    """Scores of L labels.

    average_precision, f1: (L,) float64; NaN for a label that no picture carries. micro_f1: of all.
    """

    average_precision: np.ndarray
    f1: np.ndarray
    micro_f1: float


def score_labels(labels: np.ndarray, probabilities: np.ndarray) -> LabelScores:
    """Return the scores of probabilities (N, L) float32, by labels (N, L) uint8 of 0 and 1."""
    carried, found = labels > 0, probabilities > THRESHOLD
    right, wanted, said = ((carried & found).sum(axis=0), carried.sum(axis=0), found.sum(axis=0))
    counted = wanted > 0
    precision = np.full(labels.shape[1], np.nan)
    for label in np.flatnonzero(counted):
        precision[label] = average_precision(carried[:, label], probabilities[:, label])
    f1 = np.where(counted, 2 * right / np.maximum(wanted + said, 1), np.nan)
    micro = 2 * right.sum() / max((wanted + said).sum(), 1)
    return LabelScores(precision, f1, float(micro))


def average_precision(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Return the average precision of scores (N,) whose rows are relevant (N,) bool, some of them.

    Equal scores count as one rank.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
    hits = np.cumsum(relevant[order])[ends]
    return float((np.diff(hits, prepend=0) * hits / (ends + 1)).sum() / hits[-1])


def classification(scores: LabelScores) -> dict:
    """Return what metrics.json says of the scores of all labels together."""
    return {
        "mean_average_precision": _mean(scores.average_precision),
        "micro_f1": scores.micro_f1,
        "macro_f1": _mean(scores.f1),
        "threshold": THRESHOLD,
        "labels": int(np.isfinite(scores.f1).sum()),
    }


def of_label(scores: LabelScores, label: int) -> dict:
    """Return what metrics.json says of one label."""
    return {
        "average_precision": float(scores.average_precision[label]),
        "f1": float(scores.f1[label]),
    }


def describe_classification(classified: dict) -> str:
    """Return the scores of all labels together as a line to read."""
    return (
        f"{classified['mean_average_precision']:.4f} mean AP of {classified['labels']} labels, "
        f"F1 {classified['micro_f1']:.4f} micro, {classified['macro_f1']:.4f} macro"
    )


def _mean(values: np.ndarray) -> float:
    counted = values[np.isfinite(values)]
    return math.fsum(counted) / max(len(counted), 1)
