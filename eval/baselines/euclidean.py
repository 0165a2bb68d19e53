"""Exhaustive Euclidean search on the features themselves: what codes give up, or gain.

For each query the database is sorted by distance, equal distances in database order, and measured
as eval/metrics.py measures codes.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from eval.graded import Graded, discounts_of, graded_figures, graded_sums
from eval.metrics import ORDERS, precision_cutoffs
from eval.ranking import label_planes, relevant_rows, shares_label
from eval.summary import graded_content, mean
from eval.ties import (
    average_precision_under_ties,
    harmonic_numbers,
    hits_under_ties,
    prefix_sums,
)

QUERIES_PER_BLOCK = 32


def measure(
    query: np.ndarray,
    query_labels: np.ndarray,
    database: np.ndarray,
    database_labels: np.ndarray,
    k: int,
    progress: Callable[[int], None] = lambda queries: None,
) -> dict:
    """Return figures under the names that metrics.json has for codes: mAPs, precision at k, ties.

    query, database: (Q, F) and (N, F) float32. Labels: (Q,) and (N,) int32, or (Q, L) and (N, L)
    uint8 of 0 and 1, which have graded figures, too. Distances are float32, as BLAS rounds them.
    `progress` hears how many queries were done.
    """
    ranked = len(database)
    first = min(k, ranked)
    cutoffs = precision_cutoffs(k, ranked)
    harmonic = harmonic_numbers(ranked)
    several = database_labels.ndim == 2
    planes = label_planes(database_labels) if several else None
    discounts = discounts_of(ranked)
    discount_sums = prefix_sums(discounts)
    norms = np.einsum("ij,ij->i", database, database)

    def graded(distances: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the arrays of `Graded` of one query, without their first axis."""
        relevant, grades, one, last = relevant_rows(label[None], planes)
        counts, group_of, place_of = _groups(distances)
        of_relevant = group_of[None, relevant], place_of[None, relevant]
        every = np.unique([*cutoffs, ranked])
        sums = graded_sums(counts[None], *of_relevant, grades, one, last, every, discounts)
        hits = np.searchsorted(
            np.sort((np.cumsum(counts) - counts)[group_of[relevant]] + place_of[relevant]), every
        )
        return tuple(
            figure[0]
            for figure in graded_figures(
                sums[0], sums[1:], hits[None], every, cutoffs, first, harmonic, discount_sums
            )
        )

    def block(start: int) -> list[tuple]:
        rows = slice(start, start + QUERIES_PER_BLOCK)
        # The query's own norm does not change its ranking.
        distances = norms - 2 * (query[rows] @ database.T)
        figures = [
            (
                *_figures(row, shares_label(label, database_labels), first, cutoffs, harmonic),
                *(graded(row, label) if several else ()),
            )
            for row, label in zip(distances, query_labels[rows], strict=True)
        ]
        progress(len(figures))
        return figures

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        blocks = pool.map(block, range(0, len(query), QUERIES_PER_BLOCK))
        figures = [figure for of_block in blocks for figure in of_block]
    ap, ap_at_k, precision, *graded_parts = (np.stack(part) for part in zip(*figures, strict=True))
    at_k = f"map_at_{k}"
    return {
        "map": mean(ap[:, 0]),
        at_k: mean(ap_at_k[:, 0]),
        "precision_at_k": {
            "k": cutoffs.tolist(),
            **{
                name: [mean(column) for column in precision[:, :, order].T]
                for order, name in enumerate(("precision", *ORDERS[1:]))
            },
        },
        "ties": {
            name: {of: mean(values[:, i]) for i, of in enumerate(ORDERS) if i}
            for name, values in (("map", ap), (at_k, ap_at_k))
        },
        "queries": len(query),
        "database": ranked,
        "k": k,
        **({"graded": graded_content(Graded(*graded_parts), cutoffs, k)} if several else {}),
    }


def _groups(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how many rows are at each distance, and each row's distance, by number, and place."""
    _, group_of, counts = np.unique(distances, return_inverse=True, return_counts=True)
    order = np.argsort(group_of, kind="stable")
    place_of = np.empty(len(distances), np.int64)
    place_of[order] = np.arange(len(distances)) - np.repeat(np.cumsum(counts) - counts, counts)
    return counts, group_of, place_of


def _figures(
    distances: np.ndarray, relevant: np.ndarray, k: int, cutoffs: np.ndarray, harmonic: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return AP and AP@k (4,), and precision at each cutoff (C, 4); the axis of four is ORDERS."""
    order = np.argsort(distances, kind="stable")
    ranked, sorted_distances = relevant[order], distances[order]
    first = np.flatnonzero(np.diff(sorted_distances, prepend=-np.inf))
    counts = np.diff(first, append=len(ranked))[None]
    relevant_counts = np.add.reduceat(ranked.astype(np.int64), first)[None]
    hits = np.cumsum(ranked)
    precisions = np.where(ranked, hits / np.arange(1, len(ranked) + 1), 0)
    tied = [
        average_precision_under_ties(counts, relevant_counts, cut, harmonic)[0, 0]
        for cut in (len(ranked), k)
    ]
    stable = [precisions[:cut].sum() / max(hits[cut - 1], 1) for cut in (len(ranked), k)]
    of_cutoffs = np.column_stack(
        [hits[cutoffs - 1], hits_under_ties(counts, relevant_counts, cutoffs)[0]]
    )
    return (
        *(np.r_[a, b] for a, b in zip(stable, tied, strict=True)),
        of_cutoffs / cutoffs[:, None],
    )
