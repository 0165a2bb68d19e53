"""The seconds that one comparison takes, of two codes and of two vectors of floats.

Every query is compared with every row of random data, and each distance is used: the nearest row is
found. Times are the least of REPEATS runs, divided by the number of comparisons.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
from tqdm import tqdm

from eval.compiled import compiled
from eval.hamming import code_words, hamming_distances, popcount
from eval.ranking import ROWS_PER_CHUNK

QUERIES, DATABASE = 256, 2_000_000
QUERIES_PER_TILE = 32
FLOATS, FLOAT_QUERIES, FLOAT_DATABASE = 4096, 64, 20_000
REPEATS = 7
CORES = len(os.sched_getaffinity(0))


def distance_cost(bit_lengths: tuple[int, ...]) -> list[dict]:
    """Return the seconds a comparison takes: of each code length, then of 4,096 floats.

    One dict a row: name, title, one_core, all_cores, and FAISS's faiss_one_core and
    faiss_all_cores; None where it was not measured.
    """
    rows = []
    for bits in tqdm(bit_lengths, desc="timing distances", unit="length", disable=None):
        (one, faiss_one), (every, faiss_every) = hamming(bits)
        rows.append(
            (f"hamming-{bits}", f"Hamming, {bits} bits", one, every, faiss_one, faiss_every)
        )
    one_by_one, together = euclidean()
    title = f"Euclidean, {FLOATS:,} floats"
    rows += [
        (f"euclidean-{FLOATS}", f"{title}, a query at a time", None, one_by_one, None, None),
        (f"euclidean-{FLOATS}-product", f"{title}, {FLOAT_QUERIES} queries at once",
         None, together, None, None),
    ]  # fmt: skip
    keys = ("name", "title", "one_core", "all_cores", "faiss_one_core", "faiss_all_cores")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def hamming(bits: int) -> list[list[float]]:
    """Return seconds a comparison, [this package's scan, FAISS] on one core and on all."""
    random = np.random.default_rng(bits)
    database = _random_codes(random, DATABASE, bits)
    query = _random_codes(random, QUERIES, bits)
    words = code_words(database)
    query_words = np.ascontiguousarray(code_words(query).T)
    tiles = [query_words[i : i + QUERIES_PER_TILE] for i in range(0, QUERIES, QUERIES_PER_TILE)]
    index = faiss.IndexBinaryFlat(8 * database.shape[1])
    index.add(database)

    def search() -> np.ndarray:
        return index.search(query, 1)[0][:, 0]

    times = []
    for cores in (1, CORES):
        faiss.omp_set_num_threads(cores)
        with ThreadPoolExecutor(cores) as pool:

            def scan(pool: ThreadPoolExecutor = pool) -> np.ndarray:
                parts = pool.map(lambda tile: _nearest_distances(tile, words), tiles)
                return np.concatenate(list(parts))

            np.testing.assert_array_equal(scan(), search())
            seconds = _fastest(scan, search)
        times.append([fastest / QUERIES / DATABASE for fastest in seconds])
    return times


def euclidean() -> tuple[float, float]:
    """Return seconds a comparison of 4,096 floats: a query at a time, and as a matrix product."""
    random = np.random.default_rng(0)
    database = random.random((FLOAT_DATABASE, FLOATS), np.float32)
    query = random.random((FLOAT_QUERIES, FLOATS), np.float32)
    norms = np.einsum("ij,ij->i", database, database)

    def one_by_one() -> np.ndarray:
        return np.array([np.argmin(norms - 2 * (database @ row)) for row in query])

    def together() -> np.ndarray:
        return np.argmin(norms - 2 * (query @ database.T), axis=1)

    np.testing.assert_array_equal(one_by_one(), together())
    comparisons = FLOAT_QUERIES * FLOAT_DATABASE
    one, many = _fastest(one_by_one, together)
    return one / comparisons, many / comparisons


def copied_bytes_per_second() -> float:
    """Return how many bytes a plain copy reads and writes a second."""
    source = np.ones(2**25)
    target = np.zeros_like(source)
    (seconds,) = _fastest(lambda: np.copyto(target, source))
    return 2 * source.nbytes / seconds


def popcounts_per_second() -> float:
    """Return of how many 64-bit words, all in cache, one core counts the bits in a second."""
    words = np.random.default_rng(0).integers(2**63, size=1024, dtype=np.uint64)
    rounds = 100_000
    _count_bits(words, 1)
    (seconds,) = _fastest(lambda: _count_bits(words, rounds))
    return rounds * len(words) / seconds


@compiled
def _nearest_distances(queries: np.ndarray, database: np.ndarray) -> np.ndarray:
    """Return the smallest distance of each query (Q, words) to the rows of (words, N)."""
    smallest = np.full(len(queries), 65535, np.uint16)
    distances = np.empty(ROWS_PER_CHUNK, np.uint16)
    for start in range(0, database.shape[1], ROWS_PER_CHUNK):
        stop = min(start + ROWS_PER_CHUNK, database.shape[1])
        for q in range(len(queries)):
            hamming_distances(queries[q], database, start, stop, distances)
            for i in range(stop - start):
                smallest[q] = min(smallest[q], distances[i])
    return smallest


@compiled
def _count_bits(words: np.ndarray, rounds: int) -> int:
    """Count the bits of `words`, again in every round after a change that depends on the round."""
    total = np.uint64(0)
    for i in range(rounds):
        for j in range(len(words)):
            total += popcount(words[j] ^ np.uint64(i))
    return total


def _random_codes(random: np.random.Generator, rows: int, bits: int) -> np.ndarray:
    codes = random.integers(256, size=(rows, -(-bits // 8)), dtype=np.uint8)
    codes[:, -1] &= 256 - (1 << (-bits % 8))
    return codes


def _fastest(*functions: Callable) -> list[float]:
    """Return the least seconds of each function over REPEATS runs, in turns."""
    seconds = np.empty((REPEATS, len(functions)))
    for repeat in range(REPEATS):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            seconds[repeat, i] = time.perf_counter() - start
    return seconds.min(axis=0).tolist()
