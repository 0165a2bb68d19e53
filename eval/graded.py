"""Graded relevance: figures that count how many labels a row shares with the query.

The grade r of a row is the number of labels that it and the query both have. With the database
ranked as in eval/metrics.py, at a cutoff k (the database's size where that is less),

- DCG@k is the sum of (2^r - 1) / log2(1 + i) over the ranks i = 1 ... k, and NDCG@k divides it by
  the greatest DCG@k that any ranking of the database has; 0 where no row has a label of the query.
  The discount is that of Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR
  techniques", ACM TOIS 2002, moved by one rank so that the first counts whole; the exponential gain
  is that of Burges et al., "Learning to rank using gradient descent", ICML 2005. Both are those of
  Zhao, Huang, Wang and Tan, "Deep semantic ranking based hashing for multi-label image retrieval",
  CVPR 2015, section 4.1, whose logarithm's base, not stated, cancels.
- ACG@k, average cumulative gain, is the mean of r over the ranks 1 ... k (Jarvelin and Kekalainen
  2000; Zhao et al.).
- weighted AP@k is the mean of ACG@i over the ranks i <= k whose row is relevant (r > 0), 0 where
  there is none; weighted mAP averages it over the queries (Zhao et al.). As for AP, the mean
  divides by the relevant rows among the first k. Where each relevant row shares one label, it is
  AP.
"""

from typing import NamedTuple

import numpy as np

from eval.compiled import compiled
from eval.graded_ties import gains_of, graded_under_ties, weighted_ap_under_ties
from eval.ranking import cutoff_of


class Graded(NamedTuple):
    """Figures of a block of queries by graded relevance; the axis of four is eval.metrics.ORDERS.

    ndcg, acg: (Q, C, 4) float64, at each cutoff of the precision curve. weighted_ap: (Q, 4)
    float64, over the whole database. weighted_ap_at_k: (Q, 4) float64, among the first k.
    """

    ndcg: np.ndarray
    acg: np.ndarray
    weighted_ap: np.ndarray
    weighted_ap_at_k: np.ndarray


def discounts_of(count: int) -> np.ndarray:
    """Return the discount of each of the ranks 1 to `count`, (count,) float64."""
    return 1 / np.log2(np.arange(2, count + 2))


def graded_figures(
    grade_counts: np.ndarray,
    stable: tuple[np.ndarray, np.ndarray, np.ndarray],
    hits: np.ndarray,
    cutoffs: np.ndarray,
    curve: np.ndarray,
    k: int,
    harmonic: np.ndarray,
    discount_sums: np.ndarray,
) -> Graded:
    """Return the figures of queries, from their sums in database order and from their ties.

    grade_counts, stable: as `graded_sums` returns them. hits: (Q, C) int64, relevant rows among the
    first of each of the cutoffs, of which `curve` and k are some and the last is all ranked rows.
    harmonic: `harmonic_numbers` of that number. discount_sums: `prefix_sums` of its discounts.
    """
    dcg, gained, weighted = stable
    on_curve = np.searchsorted(cutoffs, curve)
    tied_dcg, ideal, tied_gained = graded_under_ties(grade_counts, curve, discount_sums)
    every_dcg = np.concatenate([dcg[:, on_curve, None], tied_dcg], axis=2)
    every_gained = np.concatenate([gained[:, on_curve, None], tied_gained], axis=2)

    def weighted_ap(cut: int) -> np.ndarray:
        at = np.searchsorted(cutoffs, cut)
        in_order = weighted[:, at] / np.maximum(hits[:, at], 1)
        return np.column_stack([in_order, weighted_ap_under_ties(grade_counts, cut, harmonic)])

    return Graded(
        ndcg=every_dcg / np.where(ideal > 0, ideal, 1)[:, :, None],
        acg=every_gained / curve[:, None],
        weighted_ap=weighted_ap(cutoffs[-1]),
        weighted_ap_at_k=weighted_ap(k),
    )


@compiled
def graded_sums(
    counts: np.ndarray,
    distance_of: np.ndarray,
    place_of: np.ndarray,
    grades: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    cutoffs: np.ndarray,
    discounts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sum up the grades of each query's relevant rows in the stable ranking.

    counts, distance_of, place_of: as `place_relevant` returns them; grades, first, last: as
    `relevant_rows` does. cutoffs: (C,) int64, ascending, the last one not below the number of
    ranked rows. discounts: (N,) float64, of each rank.

    Returns
      grade_counts  (Q, bits + 1, R + 1) int64: rows of each grade at each distance
      dcg           (Q, C) float64: DCG@k for each cutoff k, in the units of `gains_of`
      gained        (Q, C) int64: sum of the grades among the first k
      weighted      (Q, C) float64: sum of ACG@i over the relevant ranks i among the first k
    """
    total = len(counts)
    bits = counts.shape[1] - 1
    highest = 0
    for q in range(total):
        for n in range(first[q], last[q]):
            highest = max(highest, grades[n])
    grade_counts = np.zeros((total, bits + 1, highest + 1), np.int64)
    dcg = np.zeros((total, len(cutoffs)), np.float64)
    gained = np.zeros((total, len(cutoffs)), np.int64)
    weighted = np.zeros((total, len(cutoffs)), np.float64)
    for q in range(total):
        for d in range(bits + 1):
            grade_counts[q, d, 0] = counts[q, d]
        for n in range(last[q] - first[q]):
            d = distance_of[q, n]
            if d <= bits:
                grade_counts[q, d, grades[first[q] + n]] += 1
                grade_counts[q, d, 0] -= 1
        before = np.zeros(bits + 2, np.int64)
        gained_before = np.zeros(bits + 2, np.int64)
        for d in range(bits + 1):
            before[d + 1] = before[d] + counts[q, d]
            gained_before[d + 1] = gained_before[d]
            for grade in range(1, highest + 1):
                gained_before[d + 1] += grade * grade_counts[q, d, grade]
        gains = gains_of(grade_counts[q])
        for n in range(last[q] - first[q]):
            d = distance_of[q, n]
            if d > bits:
                continue
            grade = grades[first[q] + n]
            gained_before[d] += grade
            rank = before[d] + place_of[q, n] + 1
            c = cutoff_of(rank, cutoffs)
            dcg[q, c] += gains[grade] * discounts[rank - 1]
            gained[q, c] += grade
            weighted[q, c] += gained_before[d] / rank
        for c in range(1, len(cutoffs)):
            dcg[q, c] += dcg[q, c - 1]
            gained[q, c] += gained[q, c - 1]
            weighted[q, c] += weighted[q, c - 1]
    return grade_counts, dcg, gained, weighted
