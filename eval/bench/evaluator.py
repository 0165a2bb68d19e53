"""python -m eval.bench.evaluator: time, memory and mAP of ways to rank a whole database.

All rows work on the same codes, CIFAR-10's protocol: 10,000 queries against 50,000 codes of 48
bits in 10 classes. Each runs in a process of its own and starts from packed codes in memory. A
second table gives each picture further labels, and measures NDCG beside scikit-learn's.
"""

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
from sklearn.metrics import average_precision_score, ndcg_score

from eval.bench.common import clustered_codes, in_child
from eval.compiled import compiled
from eval.hamming import code_words, distinct_codes, hamming_distances
from eval.metrics import ORDERS, QUERIES_PER_TILE, evaluate_queries
from eval.ranking import ROWS_PER_CHUNK
from eval.summary import mean

QUERIES, DATABASE, BITS, CLASSES = 10_000, 50_000, 48, 10
K = 1000
FURTHER = 0.15  # share of the pictures that have a label which is not their class's
FAISS_BATCH = 16  # its counting sort takes 20 MB a query
POPCOUNT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)


def main() -> None:
    """Time each row and print the table."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        rows = [
            ("this evaluator, all figures, first run (compiles)", this_evaluator, QUERIES),
            ("this evaluator, all figures", this_evaluator, QUERIES),
            ("NumPy: stable argsort of 8-bit distances, per query", stable_argsort, QUERIES),
            ("FAISS IndexBinaryFlat, counting sort, then AP", faiss_counting, QUERIES),
            ("the same on one thread", faiss_counting_one_thread, QUERIES),
            ("FAISS IndexBinaryFlat, heap (default), then AP", faiss_heap, 1000),
            ("argsort of float distances, per query (usual loop)", usual_loop, QUERIES),
            ("scikit-learn average_precision_score, per query", scikit_learn, 1000),
        ]
        codes, _ = clustered_codes(DATABASE, BITS, CLASSES, seed=1)
        print(
            f"{QUERIES:,} queries against {DATABASE:,} codes of {BITS} bits "
            f"({len(distinct_codes(codes)[0]):,} distinct), whole ranking, "
            f"{len(os.sched_getaffinity(0))} cores"
        )
        print(f"{'':52}{'queries':>8}{'seconds':>10}{'peak MB':>9}{'mAP':>10}{'ours':>10}")
        seconds = {}
        for name, function, queries in rows:
            (measured, value), peak = in_child(timed, function, queries)
            (_, ours), _ = in_child(timed, this_evaluator, queries)
            seconds[name] = measured * QUERIES / queries
            scaled = "" if queries == QUERIES else f"  scaled from {measured:.1f} s"
            print(
                f"{name:52}{queries:>8,}{seconds[name]:>10.2f}{peak:>9,.0f}{value:>10.6f}"
                f"{ours:>10.6f}{scaled}",
                flush=True,
            )
    others = {name: value for name, value in seconds.items() if "this evaluator" not in name}
    fastest = min(others, key=others.get)
    times = others[fastest] / seconds["this evaluator, all figures"]
    print(f"fastest other row: {fastest}; {times:.1f} times this evaluator's time")
    print("'ours' is this evaluator's mAP on the same queries; rows of fewer are scaled to all")
    (_, alone), _ = in_child(timed, distances_alone, QUERIES)
    share = alone / seconds["this evaluator, all figures"]
    print(
        f"of this evaluator's time {share:.0%} are distances ({alone:.2f} s): the most that "
        "computing those of equal database codes once could save"
    )
    graded_table()


def graded_table() -> None:
    """Time NDCG with several labels a picture, and print the table."""
    rows = [
        ("this evaluator, all figures, several labels", graded_evaluator, QUERIES),
        ("scikit-learn ndcg_score, per query", scikit_learn_ndcg, 200),
    ]
    print(f"{'':52}{'queries':>8}{'seconds':>10}{'peak MB':>9}{f'NDCG@{K}':>10}{'ours':>10}")
    seconds = []
    for name, function, queries in rows:
        (measured, value), peak = in_child(timed, function, queries, True)
        (_, ours), _ = in_child(timed, graded_evaluator, queries, True)
        seconds.append(measured * QUERIES / queries)
        scaled = "" if queries == QUERIES else f"  scaled from {measured:.1f} s"
        print(
            f"{name:52}{queries:>8,}{seconds[-1]:>10.2f}{peak:>9,.0f}{value:>10.6f}"
            f"{ours:>10.6f}{scaled}",
            flush=True,
        )
    print(f"scikit-learn takes {seconds[1] / seconds[0]:.1f} times this evaluator's time, for NDCG")


def timed(function: Callable, queries: int, several: bool = False) -> tuple[float, float]:
    """Return the seconds and the figure of one row on the first `queries` queries.

    several: whether pictures have further labels.
    """
    database = clustered_codes(DATABASE, BITS, CLASSES, seed=1)
    codes, labels = clustered_codes(QUERIES, BITS, CLASSES, seed=2)
    if several:
        database = database[0], with_further(database[1], seed=3)
        labels = with_further(labels, seed=4)
    start = time.perf_counter()
    value = function(codes[:queries], labels[:queries], *database)
    return time.perf_counter() - start, float(value)


def with_further(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return labels (N,) with further ones, (N, CLASSES) uint8 of 0 and 1."""
    rows = np.random.default_rng(seed).random((len(labels), CLASSES)) < FURTHER
    rows[np.arange(len(labels)), labels] = True
    return rows.astype(np.uint8)


def graded_evaluator(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """Return the evaluator's expected NDCG; it computes all of its figures."""
    figures = evaluate_queries(
        query_codes, query_labels, database_codes, database_labels, bits=BITS, k=K
    )
    return mean(figures.graded.ndcg[:, -1, ORDERS.index("expected")])


def scikit_learn_ndcg(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """Return the NDCG by scikit-learn, which averages over the orders of ties."""
    query_signs, database_signs = _signs(query_codes), _signs(database_codes)
    grades = query_labels.astype(np.float32) @ database_labels.T.astype(np.float32)
    total = 0.0
    for signs, row in zip(query_signs, grades, strict=True):
        total += ndcg_score(2.0 ** row[None] - 1, (signs @ database_signs.T)[None], k=K)
    return total / len(query_codes)


def this_evaluator(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """Return the evaluator's mAP; it computes all of its figures."""
    figures = evaluate_queries(
        query_codes=query_codes,
        query_labels=query_labels,
        database_codes=database_codes,
        database_labels=database_labels,
        bits=BITS,
        k=K,
    )
    return mean(figures.ap[:, 0])


def distances_alone(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """Return the seconds that the evaluator's distances take alone, with nothing ranked."""
    database = code_words(database_codes)
    queries = np.ascontiguousarray(code_words(query_codes[distinct_codes(query_codes)[0]]).T)
    scan_all(queries[:1], database)
    start = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        tiles = range(0, len(queries), QUERIES_PER_TILE)
        list(pool.map(lambda t: scan_all(queries[t : t + QUERIES_PER_TILE], database), tiles))
    return time.perf_counter() - start


@compiled
def scan_all(queries: np.ndarray, database: np.ndarray) -> int:
    """Compute all pairs' distances, each chunk's written over the last; return a sum of some."""
    distances = np.empty(ROWS_PER_CHUNK, np.uint16)
    total = 0
    for start in range(0, database.shape[1], ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, database.shape[1])
        for q in range(len(queries)):
            hamming_distances(queries[q], database, start, stop, distances)
            total += distances[q % (stop - start)]
    return total


def stable_argsort(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """Return the mAP by a stable argsort of each query's distances."""
    total = 0.0
    for code, label in zip(query_codes, query_labels, strict=True):
        distances = POPCOUNT[database_codes ^ code].sum(axis=1, dtype=np.uint8)
        order = np.argsort(distances, kind="stable")
        total += _average_precision(database_labels[order] == label)
    return total / len(query_codes)


def usual_loop(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """Return the mAP of the usual loop: signs and one-hot labels, a product, NumPy's own sort."""
    query_signs, database_signs = _signs(query_codes), _signs(database_codes)
    query_hot, database_hot = (
        np.eye(CLASSES, dtype=np.float32)[labels] for labels in (query_labels, database_labels)
    )
    total = 0.0
    for signs, hot in zip(query_signs, query_hot, strict=True):
        relevance = hot @ database_hot.T > 0
        distances = 0.5 * (BITS - signs @ database_signs.T)
        total += _average_precision(relevance[np.argsort(distances)])
    return total / len(query_codes)


def scikit_learn(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
) -> float:
    """Return the mAP by scikit-learn, which ranks ties as one."""
    query_signs, database_signs = _signs(query_codes), _signs(database_codes)
    total = 0.0
    for signs, label in zip(query_signs, query_labels, strict=True):
        total += average_precision_score(database_labels == label, signs @ database_signs.T)
    return total / len(query_codes)


def faiss_heap(*codes_and_labels: np.ndarray) -> float:
    """Return the mAP by FAISS's search with a heap, its default."""
    return _faiss(*codes_and_labels, use_heap=True)


def faiss_counting(*codes_and_labels: np.ndarray) -> float:
    """Return the mAP by FAISS's search with a counting sort."""
    return _faiss(*codes_and_labels, use_heap=False)


def faiss_counting_one_thread(*codes_and_labels: np.ndarray) -> float:
    """Return `faiss_counting` on one thread."""
    faiss.omp_set_num_threads(1)  # where other work shares the cores, its threads wait in turns
    return faiss_counting(*codes_and_labels)


def _faiss(
    query_codes: np.ndarray,
    query_labels: np.ndarray,
    database_codes: np.ndarray,
    database_labels: np.ndarray,
    use_heap: bool,
) -> float:
    index = faiss.IndexBinaryFlat(BITS)
    index.use_heap = use_heap
    index.add(database_codes)
    total = 0.0
    for start in range(0, len(query_codes), FAISS_BATCH):
        batch = slice(start, start + FAISS_BATCH)
        _, orders = index.search(query_codes[batch], len(database_codes))
        for order, label in zip(orders, query_labels[batch], strict=True):
            total += _average_precision(database_labels[order] == label)
    return total / len(query_codes)


def _average_precision(relevance: np.ndarray) -> float:
    ranks = np.flatnonzero(relevance) + 1
    return (np.arange(1, len(ranks) + 1) / ranks).mean()


def _signs(codes: np.ndarray) -> np.ndarray:
    return np.unpackbits(codes, axis=1)[:, :BITS].astype(np.float32) * 2 - 1


if __name__ == "__main__":
    main()
