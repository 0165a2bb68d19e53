"""Rankings by Hamming distance, ties in database order, without sorting.

Distances are integers from 0 to K, so a stable sort is a counting sort: the rank of a row is the
number of rows at smaller distances, plus its place among the rows at its own distance.
"""

import numpy as np

from eval.compiled import compiled
from eval.hamming import hamming_distances

ROWS_PER_CHUNK = 2048  # distances and counters of a chunk stay in the first-level cache


def shares_label(label: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Return which rows (N,) bool share a label with one query: its label, or row of 0 and 1.

    database_labels: (N,) int32 or (N, L) uint8 of 0 and 1.
    """
    if database_labels.ndim == 1:
        return database_labels == label
    return database_labels[:, label > 0].any(axis=1)


def label_planes(labels: np.ndarray) -> np.ndarray:
    """Return rows (N, L) of 0 and 1 as planes (L, N): a scan for a label reads memory in order."""
    return np.ascontiguousarray(labels.T)


def relevant_rows(
    query_labels: np.ndarray, database_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the database rows that share a label with each query, ascending.

    Labels: (Q,) and (N,) integers; or (Q, L) of 0 and 1, and what `label_planes` makes of (N, L).
    Returns `rows`, `grades` (uint16, the number of labels that each shares), `first` and `last`:
    the rows of query q are rows[first[q]:last[q]]; queries with equal labels share them.
    """
    distinct, which = np.unique(query_labels, axis=0, return_inverse=True)
    if query_labels.ndim == 2:
        rows, grades, ends = _rows_that_share(distinct, database_labels)
    else:
        lists = [np.flatnonzero(database_labels == label) for label in distinct]
        rows = np.concatenate(lists)
        grades = np.ones(len(rows), np.uint16)
        ends = np.cumsum([0] + [len(rows) for rows in lists])
    return rows, grades, ends[:-1][which], ends[1:][which]


@compiled
def _rows_that_share(
    queries: np.ndarray, database: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `rows` and `grades` of each of the queries (U, L), one after another, and ends.

    database: (L, N). The rows of query q end at ends[q + 1].
    """
    shared = np.empty(database.shape[1], np.uint16)
    ends = np.zeros(len(queries) + 1, np.int64)
    for q in range(len(queries)):
        _count_shared(queries[q], database, shared)
        ends[q + 1] = ends[q] + np.count_nonzero(shared)
    rows = np.empty(ends[-1], np.int64)
    grades = np.empty(ends[-1], np.uint16)
    for q in range(len(queries)):
        _count_shared(queries[q], database, shared)
        place = ends[q]
        for row in range(len(shared)):
            if shared[row]:
                rows[place] = row
                grades[place] = shared[row]
                place += 1
    return rows, grades, ends


@compiled
def _count_shared(query: np.ndarray, database: np.ndarray, shared: np.ndarray) -> None:
    """Write how many labels of one query (L,) each row has into `shared` (N,) uint16."""
    shared[:] = 0
    for label in range(len(query)):
        if query[label] > 0:
            plane = database[label]
            for i in range(len(shared)):
                shared[i] += plane[i]


@compiled
def place_relevant(
    queries: np.ndarray,
    database: np.ndarray,
    rows: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    excluded: np.ndarray,
    bits: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find at which distance, and at which place there, each query's relevant rows stand.

    queries: (Q, words) uint64. database: (words, N) uint64. rows, first, last: as `relevant_rows`
    returns them. excluded: (Q,) int64, one row that is left out of the ranking of each query, or
    -1.

    Returns
      counts        (Q, bits + 1) int64: rows at each distance
      distance_of   (Q, most) uint16: of the relevant rows, by row; bits + 1 for the excluded one
      place_of      (Q, most) int32: rows before it, in database order, that have its distance
    """
    total = len(queries)
    most = 0
    for q in range(total):
        most = max(most, last[q] - first[q])
    # The excluded row sits in an extra bucket behind every ranked one, at distance bits + 1.
    buckets = np.zeros((total, 4, bits + 2), np.int32)
    distance_of = np.empty((total, most), np.uint16)
    place_of = np.empty((total, most), np.int32)
    distances = np.empty(ROWS_PER_CHUNK, np.uint16)
    upcoming = first.copy()
    for start in range(0, database.shape[1], ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, database.shape[1])
        for q in range(total):
            hamming_distances(queries[q], database, start, stop, distances)
            if start <= excluded[q] < stop:
                distances[excluded[q] - start] = bits + 1
            i = 0
            while upcoming[q] < last[q] and rows[upcoming[q]] < stop:
                j = rows[upcoming[q]] - start
                _count(distances, i, j, buckets[q])
                i = j
                n = upcoming[q] - first[q]
                distance_of[q, n] = distances[j]
                place_of[q, n] = _in_bucket(buckets[q], distances[j])
                upcoming[q] += 1
            _count(distances, i, stop - start, buckets[q])

    counts = np.zeros((total, bits + 1), np.int64)
    for q in range(total):
        for d in range(bits + 1):
            counts[q, d] = _in_bucket(buckets[q], d)
    return counts, distance_of, place_of


@compiled
def measure_places(
    counts: np.ndarray,
    distance_of: np.ndarray,
    place_of: np.ndarray,
    relevant: np.ndarray,
    cutoffs: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum up, for each query, where `place_relevant` found its relevant rows.

    relevant: (Q,) int64, how many there are. cutoffs: (C,) int64, ascending, the last one not below
    the number of ranked rows.

    Returns, per query,
      relevant_counts   (Q, bits + 1) int64: relevant rows at each distance
      hits              (Q, C) int64: relevant rows among the first k, for each cutoff k
      precision_sums    (Q, C) float64: sum of the precisions at the relevant ranks among the
                        first k, for each cutoff k
    """
    total = len(counts)
    bits = counts.shape[1] - 1
    relevant_counts = np.zeros((total, bits + 1), np.int64)
    hits = np.zeros((total, len(cutoffs)), np.int64)
    precision_sums = np.zeros((total, len(cutoffs)), np.float64)
    for q in range(total):
        at_distance = np.zeros(bits + 2, np.int64)
        for n in range(relevant[q]):
            at_distance[distance_of[q, n]] += 1
        before = np.zeros(bits + 2, np.int64)
        relevant_before = np.zeros(bits + 2, np.int64)
        for d in range(bits + 1):
            relevant_counts[q, d] = at_distance[d]
            before[d + 1] = before[d] + counts[q, d]
            relevant_before[d + 1] = relevant_before[d] + at_distance[d]
        for n in range(relevant[q]):
            d = distance_of[q, n]
            if d > bits:
                continue
            relevant_before[d] += 1
            rank = before[d] + place_of[q, n] + 1
            c = cutoff_of(rank, cutoffs)
            hits[q, c] += 1
            precision_sums[q, c] += relevant_before[d] / rank
        for c in range(1, len(cutoffs)):
            hits[q, c] += hits[q, c - 1]
            precision_sums[q, c] += precision_sums[q, c - 1]
    return relevant_counts, hits, precision_sums


@compiled
def cutoff_of(rank: int, cutoffs: np.ndarray) -> int:
    """Return the place of the least cutoff that is not below a rank."""
    c = len(cutoffs) - 1
    while c > 0 and rank <= cutoffs[c - 1]:
        c -= 1
    return c


@compiled
def _count(
    distances: np.ndarray,
    start: int,
    stop: int,
    buckets: np.ndarray,
) -> None:
    """Count distances[start:stop], in turns into four counters, so that none waits for the last."""
    i = start
    while i + 4 <= stop:
        buckets[0, distances[i]] += 1
        buckets[1, distances[i + 1]] += 1
        buckets[2, distances[i + 2]] += 1
        buckets[3, distances[i + 3]] += 1
        i += 4
    while i < stop:
        buckets[0, distances[i]] += 1
        i += 1


@compiled
def _in_bucket(buckets: np.ndarray, d: int) -> int:
    return buckets[0, d] + buckets[1, d] + buckets[2, d] + buckets[3, d]
