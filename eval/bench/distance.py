"""python -m eval.bench.distance: the cost of one comparison, Hamming beside Euclidean.

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
from tqdm import tqdm

from eval.compiled import compiled
from eval.hamming import code_words, hamming_distances, popcount
from eval.published import read_published
from eval.ranking import ROWS_PER_CHUNK

BIT_LENGTHS = (12, 24, 32, 48, 64, 128, 256, 512, 1024)
QUERIES, DATABASE = 256, 2_000_000
QUERIES_PER_TILE = 32
FLOATS, FLOAT_QUERIES, FLOAT_DATABASE = 4096, 64, 20_000
REPEATS = 7
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    published = {row["descriptor"]: row for row in read_published("distance_cost")}
    paper_hamming = float(published["SSDH-64"]["seconds_per_comparison"])
    paper_euclidean = float(published["CNN-fc7-4096"]["seconds_per_comparison"])
    print(f"best of {REPEATS} runs in turns, per comparison; operands are random, every distance")
    print("is used to find the nearest row, and both scans give the same distances")
    print(f"{'':26}{'1 core':^22}  {f'{CORES} cores':^22}  {'FAISS/this,':>12}")
    print(
        f"{'Hamming':26}{'this':>11}{'FAISS':>11}  {'this':>11}{'FAISS':>11}  {'best of each':>12}"
    )
    for bits in BIT_LENGTHS:
        one, all_cores = hamming(bits)
        ratio = min(one[1], all_cores[1]) / min(one[0], all_cores[0])
        times = "  ".join(
            "".join(f"{duration(value):>11}" for value in pair) for pair in (one, all_cores)
        )
        remark = f"   paper: {duration(paper_hamming)}" if bits == 64 else ""
        print(f"{f'{bits} bits':26}{times}  {ratio:>12.2f}{remark}", flush=True)
    one_by_one, together = euclidean()
    print(f"Euclidean, 4,096 floats, {CORES} cores")
    print(
        f"{'  a query at a time':26}{duration(one_by_one):>11}   paper: {duration(paper_euclidean)}"
    )
    print(f"{f'  {FLOAT_QUERIES} queries at once':26}{duration(together):>11}   (a matrix product)")
    bandwidth, words = copied_bytes_per_second(), popcounts_per_second()
    print("this machine's own limit")
    print(f"  plain copy, bytes read and written: {bandwidth / 1e9:.1f} GB/s")
    print(f"  popcount of words in cache, one core: {duration(1 / words)} a word")
    print(
        f"No core compares two 64-bit words in {duration(paper_hamming)}: that is "
        f"{1e-9 / paper_hamming:.0f} comparisons a nanosecond, and {words * paper_hamming:.2f} "
        f"words is what a core of this machine counts in that time, with nothing else to do."
    )


def distance_cost(bit_lengths: tuple[int, ...]) -> list[dict]:
    """Seconds a comparison: of each code length, then of 4,096 floats.

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
    """Seconds a comparison of this package's scan and of FAISS, on one core and on all."""
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
    one, many = _fastest(one_by_one, together)
    return one / comparisons, many / comparisons


def copied_bytes_per_second() -> float:
    source = np.ones(2**25)
    target = np.zeros_like(source)
    (seconds,) = _fastest(lambda: np.copyto(target, source))
    return 2 * source.nbytes / seconds


def popcounts_per_second() -> float:
    words = np.random.default_rng(0).integers(2**63, size=1024, dtype=np.uint64)
    rounds = 100_000
    _count_bits(words, 1)
    (seconds,) = _fastest(lambda: _count_bits(words, rounds))
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
        for j in range(len(words)):
            total += popcount(words[j] ^ np.uint64(i))
    return total


def _random_codes(random: np.random.Generator, rows: int, bits: int) -> np.ndarray:
    codes = random.integers(256, size=(rows, -(-bits // 8)), dtype=np.uint8)
    codes[:, -1] &= 256 - (1 << (-bits % 8))
    return codes


def _fastest(*functions: Callable) -> list[float]:
    """Least seconds of each function over REPEATS runs, in turns."""
    seconds = np.empty((REPEATS, len(functions)))
    for repeat in range(REPEATS):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            seconds[repeat, i] = time.perf_counter() - start
    return seconds.min(axis=0).tolist()


def duration(seconds: float) -> str:
    """Seconds as text in us, ns or ps."""
    for unit, size in (("us", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-12:.3g} ps"


if __name__ == "__main__":
    main()
