"""Retrieval metrics of binary codes as the releases define them, and what ties do to them.

For each query the database is sorted by Hamming distance, ties in database order (a stable sort).
AP@k is the mean of the precisions at the relevant ranks among the first k, divided by the number
of relevant rows among those k, 0 where there is none; mAP@k averages it over queries. Precision
at k is averaged over queries. Where pictures have several labels, eval/graded.py defines figures
by how many they share. `evaluate_queries` works on any block of queries; blocks joined by
`join` give the same figures, to the last bit, as one block of all of them.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from eval.graded import Graded, discounts_of, graded_figures, graded_sums
from eval.hamming import code_words, distinct_codes
from eval.ranking import label_planes, measure_places, place_relevant, relevant_rows
from eval.ties import (
    average_precision_under_ties,
    harmonic_numbers,
    hits_under_ties,
    prefix_sums,
)

RADIUS = 2  # of the look-up by Hamming ball
PRECISION_CUTOFFS = (1, 2, 5, 10, 20, 50, *range(100, 1001, 100))
QUERIES_PER_TILE = 32
TILE_ROWS = 2**24  # bounds the memory of a tile: queries x database rows
ORDERS = ("database order", "expected", "worst", "best")


class Figures(NamedTuple):
    """Figures of a block of queries; the axis of four follows ORDERS.

    relevant: (Q,) int64, relevant rows of each query.
    ap: (Q, 4) float64, AP over the whole database.
    ap_at_k: (Q, 4) float64, AP@k divided by the relevant rows among the first k (release).
    ap_at_k_trec: (Q, 4) float64, AP@k divided by all relevant rows (TREC).
    precision: (Q, C, 4) float64, precision at each cutoff.
    within_radius: (Q, 2) int64, rows within Hamming distance RADIUS, and the relevant ones of them.
    pooled: (2, K + 1) int64, rows and relevant rows at each distance, summed over queries.
    graded: figures by the number of shared labels; None where a row has one label.
    """

    relevant: np.ndarray
    ap: np.ndarray
    ap_at_k: np.ndarray
    ap_at_k_trec: np.ndarray
    precision: np.ndarray
    within_radius: np.ndarray
    pooled: np.ndarray
    graded: Graded | None


def precision_cutoffs(k: int, ranked: int) -> np.ndarray:
    """Return the cutoffs of the precision curve: the usual and k, none beyond the `ranked` rows."""
    return np.unique(np.minimum([*PRECISION_CUTOFFS, k], ranked))


def evaluate_queries(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
    bits: int,
    k: int,
    excluded: np.ndarray | None = None,
    progress: Callable[[int], None] = lambda queries: None,
) -> Figures:
    """Rank the database for each query of a block and measure the rankings.

    Codes: (Q, bytes) and (N, bytes) uint8, packed. Labels: (Q,) and (N,) int32, or (Q, L) and
    (N, L) uint8 of 0 and 1; rows are relevant where they share a label. excluded: (Q,) int64, a
    row to leave out of each ranking. `progress` hears how many queries were done. All cores
    work; a query's figures do not depend on the others.
    """
    ranked = len(database_codes) - (excluded is not None)
    k = min(k, ranked)
    curve = precision_cutoffs(k, ranked)
    cutoffs = np.unique([*curve, ranked])
    harmonic = harmonic_numbers(ranked)
    database = code_words(database_codes)
    several = database_labels.ndim == 2
    if several:
        database_labels = label_planes(database_labels)
        discounts = discounts_of(ranked)
        discount_sums = prefix_sums(discounts)
    distinct, where, multiplicity = _distinct_queries(query_codes, query_labels, excluded)
    if excluded is None:
        excluded = np.full(len(query_codes), -1)
    tile = min(max(TILE_ROWS // len(database_codes), 1), QUERIES_PER_TILE)

    def evaluate_tile(start: int) -> Figures:
        chosen = distinct[start : start + tile]
        rows, grades, first, last = relevant_rows(query_labels[chosen], database_labels)
        places = place_relevant(
            np.ascontiguousarray(code_words(query_codes[chosen]).T),
            database,
            rows,
            first,
            last,
            excluded[chosen],
            bits,
        )
        counts = places[0]
        relevant_counts, hits, sums = measure_places(*places, last - first, cutoffs)
        whole = average_precision_under_ties(counts, relevant_counts, ranked, harmonic)
        cut = average_precision_under_ties(counts, relevant_counts, k, harmonic)
        relevant = relevant_counts.sum(axis=1)
        at_k = np.searchsorted(cutoffs, k)
        on_curve = np.searchsorted(cutoffs, curve)
        tied_hits = hits_under_ties(counts, relevant_counts, curve)
        curve_hits = np.concatenate([hits[:, on_curve, None], tied_hits], axis=2)
        graded = None
        if several:
            grade_counts, *stable = graded_sums(*places, grades, first, last, cutoffs, discounts)
            graded = graded_figures(
                grade_counts, stable, hits, cutoffs, curve, k, harmonic, discount_sums
            )
        repeats = multiplicity[start : start + tile]
        progress(int(repeats.sum()))
        return Figures(
            relevant=relevant,
            ap=_beside(sums[:, -1], relevant, whole[0]),
            ap_at_k=_beside(sums[:, at_k], hits[:, at_k], cut[0]),
            ap_at_k_trec=_beside(sums[:, at_k], relevant, cut[1]),
            precision=curve_hits / curve[:, None],
            within_radius=np.stack([counts, relevant_counts], axis=1)[:, :, : RADIUS + 1].sum(
                axis=2
            ),
            pooled=np.stack([repeats @ counts, repeats @ relevant_counts]),
            graded=graded,
        )

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        tiles = join(list(pool.map(evaluate_tile, range(0, len(distinct), tile))))
    *per_query, pooled, graded = tiles
    return Figures(
        *(array[where] for array in per_query),
        pooled=pooled,
        graded=graded and Graded(*(array[where] for array in graded)),
    )


def join(blocks: Sequence[Figures]) -> Figures:
    """Join the figures of consecutive blocks: queries one after another, pooled counts added."""
    *per_query, pooled, graded = zip(*blocks, strict=True)
    return Figures(
        *map(np.concatenate, per_query),
        pooled=np.sum(pooled, axis=0),
        graded=graded[0] and Graded(*map(np.concatenate, zip(*graded, strict=True))),
    )


def _distinct_queries(
    codes: np.ndarray,
    labels: np.ndarray,
    excluded: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the distinct pairs (label, code), as `distinct_codes` does: each is ranked once.

    A query that has a row of its own to leave out shares its pair with no other.
    """
    parts = [labels.reshape(len(labels), -1).astype(">u4").view(np.uint8), codes]
    if excluded is not None:
        parts.append(excluded.astype(">i8")[:, None].view(np.uint8))
    return distinct_codes(np.concatenate(parts, axis=1))


def _beside(
    precision_sums: np.ndarray,
    denominators: np.ndarray,
    tie_figures: np.ndarray,
) -> np.ndarray:
    stable = precision_sums / np.maximum(denominators, 1)
    return np.concatenate([stable[:, None], tie_figures], axis=1)
