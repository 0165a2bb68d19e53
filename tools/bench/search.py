"""Recall, speed and memory of the index kinds at 1 and 10 million codes: `make bench-search`.

The codes are generated as a trained run's are distributed. Each starts as the code of a random
database picture of the run, and differs from it by as many bits as a test picture's code differs
from its nearest in the database (measured on the run), at bits drawn by how often they differ from
the prototype (each bit's majority) of the picture's class. Queries are the run's own test codes.
Each kind is built and searched in a process of its own; its memory is what that process
holds in private pages more after the build than before.

Many codes are equal, so recall is by distance: the share of the k pictures returned that are no
farther than the k-th of the exact search. Before the tables: FAISS's ranking beside eval's on the
run's own codes, and the whole way of `make search` for pictures of the test set, each in a fresh
process.
"""

import ctypes
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import faiss
import numpy as np
from tqdm import tqdm

from data_prep.lmdb_reader import open_rows
from eval.bench.common import in_child
from eval.codes import Codes, read_codes
from eval.hamming import code_words, nearest
from tools.run import child, device
from tools.run.data import lmdb_of
from tools.run.failure import carry_out
from tools.run.job import Job, read_job, require_codes
from tools.search.faiss_index import build, padded

QUERIES = 1000
ALONE = 100
DEPTHS = (10, 1000)
KINDS = {
    "flat": [{}],
    "ivf": [{"nprobe": 8}, {"nprobe": 32}, {"nprobe": 128}],
    "multihash": [{"nflip": 0}, {"nflip": 1}],
}
HASH_STEP = 50  # multihash gets every fiftieth query: some take a second each
SIZES = (1_000_000, 10_000_000)  # codes
ROWS_PER_PIECE = 65536
PICTURES = 20
COMPARED = 16  # whole rankings at once: FAISS's counting sort takes some 20 MB for each


class Model(NamedTuple):
    """What is measured of a run, K bits: its codes, and how those of new pictures differ from them.

    bits: (N, K) bool and labels: (N,) of the database. rates: (classes, K) float64, how often a bit
    differs from its class's prototype. queries: test codes, packed. flips: (len(queries),), how
    many bits each differs from its nearest by.
    """

    bits: np.ndarray
    labels: np.ndarray
    rates: np.ndarray
    queries: np.ndarray
    flips: np.ndarray


def measure_run(codes: Codes) -> Model:
    """Return the Model of a Codes."""
    database = codes.database
    bits = np.unpackbits(database.codes, axis=1, count=codes.bits).astype(bool)
    classes, labels = np.unique(database.labels, axis=0, return_inverse=True)
    fires = np.stack([bits[labels == each].mean(axis=0) for each in range(len(classes))])
    queries = codes.query.codes[:: -(-len(codes.query.codes) // QUERIES)]
    exact = build("flat", database.codes, codes.bits)
    flips = exact.search(padded(queries, codes.bits), 1)[0][:, 0]
    rates = np.minimum(fires, 1 - fires) + 1e-6
    return Model(bits, labels, rates, queries, flips)


def generate(model: Model, rows: int, seed: int) -> np.ndarray:
    """Return packed codes (rows, ceil(K/8)) uint8."""
    random = np.random.default_rng(seed)
    packed = []
    for start in tqdm(range(0, rows, ROWS_PER_PIECE), "generate", disable=None):
        size = min(ROWS_PER_PIECE, rows - start)
        like, count = random.integers(len(model.bits), size=size), random.choice(model.flips, size)
        bits, some = model.bits[like], np.flatnonzero(count)
        # The bits with the shortest waiting times are a weighted draw without replacement.
        waits = random.exponential(size=(len(some), bits.shape[1]))
        ranks = (waits / model.rates[model.labels[like[some]]]).argsort(axis=1).argsort(axis=1)
        bits[some] ^= ranks < count[some, None]
        packed.append(np.packbits(bits, axis=1))
    return np.concatenate(packed)


def count_distinct(codes: np.ndarray) -> int:
    """Return the number of distinct packed codes (N, bytes), by a 64-bit hash of each."""
    words = code_words(codes)
    odd = np.random.default_rng(0).integers(2**63, size=len(words), dtype=np.uint64) * 2 + 1
    return len(np.unique((words * odd[:, None].astype(np.uint64)).sum(axis=0, dtype=np.uint64)))


def private_bytes() -> int:
    """Return this process's private memory, after freed pages went back to the system."""
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in status if line.startswith("RssAnon")]
    return 1024 * int(kilobytes)


def measure(
    kind: str, settings: list[dict], path: Path, queries: np.ndarray, bits: int
) -> tuple[float, int, int, list]:
    """Return (build seconds, bytes, lists, searches) of one kind.

    settings: [{attribute of the FAISS index: value}]. path: packed codes, .npy. searches: of each
    setting and each of DEPTHS, (median seconds of a query alone, queries a second in one call,
    distances (queries, depth)).
    """
    codes = np.load(path, mmap_mode="r")
    before, start = private_bytes(), time.perf_counter()
    index = build(kind, codes, bits)
    seconds, size = time.perf_counter() - start, private_bytes() - before
    searches = []
    for values in settings:
        for name, value in values.items():
            setattr(index, name, value)
        for depth in DEPTHS:
            alone = []
            for query in queries[: min(ALONE, len(queries) // 4)]:
                start = time.perf_counter()
                index.search(padded(query[None], bits), depth)
                alone.append(time.perf_counter() - start)
            start = time.perf_counter()
            distances, rows = index.search(padded(queries, bits), depth)
            rate = len(queries) / (time.perf_counter() - start)
            searches.append((np.median(alone), rate, np.where(rows < 0, bits + 1, distances)))
    return seconds, size, getattr(index, "nlist", 0), searches


def table(model: Model, bits: int, rows: int, folder: Path) -> None:
    """Print the table of one size."""
    path = folder / "codes.npy"
    codes = generate(model, rows, seed=1)
    np.save(path, codes)
    print(f"\n{rows:,} codes of {bits} bits, {count_distinct(codes):,} distinct")
    del codes
    heads = (f"{f'recall@{depth}':>13}{'ms alone':>10}{'queries/s':>11}" for depth in DEPTHS)
    print(f"{'':28}{'build s':>9}{'MB/million':>12}" + "".join(heads))
    exact = None
    for kind, settings in KINDS.items():
        step = HASH_STEP if kind == "multihash" else 1
        (seconds, size, lists, searches), _ = in_child(
            measure, kind, settings, path, model.queries[::step], bits
        )
        exact = exact or searches
        for i, values in enumerate(settings):
            name = kind + "".join(f", {key} {value}" for key, value in values.items())
            name += f" of {lists} lists" if lists else ""
            line = f"{name:28}{seconds:>9.1f}{size / rows:>12.1f}"
            found = searches[i * len(DEPTHS) : (i + 1) * len(DEPTHS)]
            for (_, _, closest), (alone, rate, distances) in zip(exact, found, strict=True):
                recall = (distances <= closest[::step, -1:]).mean()
                line += f"{recall:>13.4f}{1000 * alone:>10.2f}{rate:>11,.0f}"
            print(line, flush=True)


def compare_with_eval(codes: Codes) -> None:
    """Print whether the flat index ranks the whole database for each test code as eval does."""
    database, queries, bits = codes.database.codes, codes.query.codes, codes.bits
    index, equal, same = build("flat", database, bits), 0, 0
    for start in tqdm(range(0, len(queries), COMPARED), "compare", disable=None):
        some = queries[start : start + COMPARED]
        found = zip(*index.search(padded(some, bits), len(database)), strict=True)
        for query, (distances, rows) in zip(some, found, strict=True):
            expected_rows, expected = nearest(query, database, len(database))
            equal += np.array_equal(distances, expected)
            same += np.array_equal(rows, expected_rows)
    print(
        f"whole ranking of {len(database):,} codes for {len(queries):,} test codes, FAISS flat and "
        f"eval: distances identical for {equal:,}, rows (ties included) for {same:,}"
    )


def whole_way(job: Job, folder: Path) -> None:
    """Print how long `make search` takes for pictures of the test set, each in a fresh process."""
    with open_rows(lmdb_of(job.data, "query")) as (keys, read):
        pictures, _ = read(np.linspace(0, len(keys) - 1, PICTURES, dtype=int))
    answers, whole = [], []
    for i, picture in enumerate(tqdm(pictures, "search", disable=None)):
        file = folder / f"{i}.png"
        cv2.imwrite(str(file), picture.transpose(1, 2, 0))
        start = time.perf_counter()
        answer, _ = child.call(
            "tools.search.query.answer_query",
            threads=device.threads(),
            log=folder / "search.log",
            run=job.run,
            data=job.data,
            picture=file,
            top=10,
            category="",
            radius=None,
            grid=False,
            gpu=None,
        )
        whole.append(time.perf_counter() - start)
        answers.append(answer["milliseconds"])
    print(f"one picture against {job.run.name}, {PICTURES} fresh processes, median (worst) ms:")
    for part in answers[0]:
        values = [answer[part] for answer in answers]
        print(f"  {part:8} {np.median(values):6.1f} ({max(values):.1f})")
    print(f"  with the start of Python and Caffe {1000 * np.median(whole):.0f}")


def main() -> None:
    """Measure on the job's run."""
    job, _ = read_job(__doc__)
    require_codes(job)
    # For the measured processes: threads that spin while they wait take other work's cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    codes = read_codes(job.run / "codes.h5")
    model = measure_run(codes)
    print(f"FAISS {faiss.__version__}, {len(os.sched_getaffinity(0))} cores")
    compare_with_eval(codes)
    with tempfile.TemporaryDirectory(prefix="bench_search-") as name:
        whole_way(job, Path(name))
        counts = np.bincount(model.flips)
        shares = ", ".join(f"{n} bits {c / counts.sum():.1%}" for n, c in enumerate(counts[:4]))
        print(f"test codes differ from their nearest by {shares}, at most {len(counts) - 1} bits")
        for rows in SIZES:
            table(model, codes.bits, rows, Path(name))


if __name__ == "__main__":
    carry_out(main)
