"""python -m eval.bench_distance: the cost of one comparison, Hamming beside Euclidean.

The paper (published/distance_cost.csv) gives 22.6 us for a Euclidean distance at 4,096 floats and
23.0 ps for a Hamming distance at 64 bits. Here every query is compared with every row of random
data, each distance is used (the nearest row is found), and times are per comparison.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np

from eval.compiled import compiled
from eval.hamming import code_words, hamming_distances, popcount
from eval.published import read_published
from eval.ranking import ROWS_PER_CHUNK

BIT_LENGTHS = (12, 24, 32, 48, 64, 128, 256, 512, 1024)
QUERIES, DATABASE = 256, 2_000_000
QUERIES_PER_TILE = 32
FLOATS, FLOAT_QUERIES, FLOAT_DATABASE = 4096, 64, 20_000
REPEATS = 5
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    faiss.omp_set_num_threads(CORES)
    published = {row["descriptor"]: row for row in read_published("distance_cost")}
    paper_hamming = float(published["SSDH-64"]["seconds_per_comparison"])
    paper_euclidean = float(published["CNN-fc7-4096"]["seconds_per_comparison"])
    print(f"median of {REPEATS} runs on {CORES} cores, per comparison; operands are random,")
    print("every distance is used to find the nearest row, and both give the same distances")
    print(f"{'Hamming':24}{'this scan':>12}{'FAISS':>12}{'FAISS/this':>12}")
    for bits in BIT_LENGTHS:
        ours, theirs = hamming(bits)
        remark = f"   paper: {_time(paper_hamming)}" if bits == 64 else ""
        print(
            f"{f'{bits} bits':24}{_time(ours):>12}{_time(theirs):>12}{theirs / ours:>12.2f}{remark}",
            flush=True,
        )
    one_by_one, together = euclidean()
    print(f"{'Euclidean, 4,096 floats':24}")
    print(f"{'  a query at a time':24}{_time(one_by_one):>12}   paper: {_time(paper_euclidean)}")
    print(f"{f'  {FLOAT_QUERIES} queries at once':24}{_time(together):>12}   (a matrix product)")
    bandwidth, words = copied_bytes_per_second(), popcounts_per_second()
    print("this machine's own limit")
    print(f"  plain copy, bytes read and written: {bandwidth / 1e9:.1f} GB/s")
    print(f"  popcount of words in cache, one core: {_time(1 / words)} a word")
    print(
        f"No core compares two 64-bit words in {_time(paper_hamming)}: that is "
        f"{1e-9 / paper_hamming:.0f} comparisons a nanosecond, and {words * paper_hamming:.2f} "
        f"words is what a core of this machine counts in that time, with nothing else to do."
    )


def hamming(bits: int) -> tuple[float, float]:
    """Seconds a comparison of this package's scan and of FAISS, on the same random codes."""
    random = np.random.default_rng(bits)
    width = -(-bits // 8)
    database = _random_codes(random, DATABASE, bits)
    query = _random_codes(random, QUERIES, bits)
    words = code_words(database)
    query_words = np.ascontiguousarray(code_words(query).T)
    index = faiss.IndexBinaryFlat(8 * width)
    index.add(database)
    tiles = range(0, QUERIES, QUERIES_PER_TILE)

    def scan() -> np.ndarray:
        with ThreadPoolExecutor(CORES) as pool:
            parts = pool.map(
                lambda start: _nearest_distances(
                    query_words[start : start + QUERIES_PER_TILE], words
                ),
                tiles,
            )
            return np.concatenate(list(parts))

    def search() -> np.ndarray:
        return index.search(query, 1)[0][:, 0]

    np.testing.assert_array_equal(scan(), search())
    comparisons = QUERIES * DATABASE
    ours, theirs = _alternating_medians(scan, search)
    return ours / comparisons, theirs / comparisons


def euclidean() -> tuple[float, float]:
    """Seconds a comparison of 4,096 floats: a query at a time, and many as a matrix product."""
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
    one, many = _alternating_medians(one_by_one, together)
    return one / comparisons, many / comparisons


def copied_bytes_per_second() -> float:
    source = np.ones(2**25)
    target = np.zeros_like(source)
    seconds, _ = _alternating_medians(lambda: np.copyto(target, source), lambda: None)
    return 2 * source.nbytes / seconds


def popcounts_per_second() -> float:
    words = np.random.default_rng(0).integers(2**63, size=1024, dtype=np.uint64)
    rounds = 100_000
    _count_bits(words, 1)
    seconds, _ = _alternating_medians(lambda: _count_bits(words, rounds), lambda: None)
    return rounds * len(words) / seconds


@compiled
def _nearest_distances(queries, database):
    """Smallest distance of each query (Q, words) to the rows of (words, N)."""
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
def _count_bits(words, rounds):
    """Bits of `words`, counted again in every round after a change that depends on the round."""
    total = np.uint64(0)
    for i in range(rounds):
        for word in words:
            total += popcount(word ^ np.uint64(i))
    return total


def _random_codes(random: np.random.Generator, rows: int, bits: int) -> np.ndarray:
    codes = random.integers(256, size=(rows, -(-bits // 8)), dtype=np.uint8)
    codes[:, -1] &= 256 - (1 << (-bits % 8))
    return codes


def _alternating_medians(first: Callable, second: Callable) -> tuple[float, float]:
    """Median seconds of each, run in turns."""
    seconds = ([], [])
    for _ in range(REPEATS):
        for function, measured in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            function()
            measured.append(time.perf_counter() - start)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def _time(seconds: float) -> str:
    for unit, size in (("us", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-12:.3g} ps"


if __name__ == "__main__":
    main()
