"""The one LMDB writer: a split's pictures, shuffled, as Datums that Caffe's Data layer reads."""

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from tqdm import tqdm

from data_prep import DataError
from data_prep.dataset import Split
from data_prep.picture import to_datum

LMDB_MAX_KEY = 511  # bytes, LMDB's own limit
PAGE, PAGE_HEADER, NODE_MAX = 4096, 16, 2038  # LMDB's page, and the largest record kept in a leaf
CHUNK_BYTES = 1 << 20  # raw bytes a task and a commit: 1,337 28x28x1 pictures, 5 256x256x3 ones


def shuffled_rows(size: int, seed: int) -> np.ndarray:
    """Return the rows in LMDB order, (size,) int64.

    Both splits are shuffled: training for SGD, and testing since Caffe's test phase averages over
    the first test_iter batches, which must not be of one class.
    RandomState's permutation is frozen for ever (NEP 19); the newer Generator's is not.
    """
    return np.random.RandomState(seed).permutation(size)


def record_keys(split: Split, seed: int) -> tuple[np.ndarray, list[bytes]]:
    """Return the rows in LMDB order and each record's key, ``{position:08d}_{row:08d}_{key}``.

    Raises DataError where a key is longer than LMDB takes.
    """
    rows = shuffled_rows(len(split.keys), seed)
    keys = [f"{place:08d}_{row:08d}_{split.keys[row]}".encode() for place, row in enumerate(rows)]
    longest = max(range(len(keys)), key=lambda place: len(keys[place]))
    if len(keys[longest]) > LMDB_MAX_KEY:
        raise DataError(
            f"{split.origin}: the path {split.keys[rows[longest]]} makes a key of "
            f"{len(keys[longest])} bytes and LMDB takes {LMDB_MAX_KEY}; shorten its name"
        )
    return rows, keys


def make_datum(split: Split, row: int, side: int, channels: int, encoding: str) -> bytes:
    """Return a row's serialized Datum; DataError names the picture."""
    try:
        label = int(split.labels[row])
        return to_datum(split.read(row), label, side, channels, encoding)
    except DataError as error:
        raise DataError(
            f"{split.origin}/{split.keys[row]} {error}; replace it or remove it"
        ) from None


def estimate_bytes(split: Split, side: int, channels: int, encoding: str) -> int:
    """Return the size in bytes that the split's LMDB will have, within a few percent.

    Raw records all have one size; of encoded ones 32 evenly spaced pictures are encoded.
    """
    size = len(split.keys)
    if encoding == "raw":
        value = side * side * channels + 24
    else:
        sample = np.unique(np.linspace(0, size - 1, 32).astype(int))
        values = [len(make_datum(split, row, side, channels, encoding)) for row in sample]
        value = int(np.mean(values))
    record = 8 + 18 + len(split.keys[0].encode()) + value
    if record > NODE_MAX:
        pages = size * -(-(value + PAGE_HEADER) // PAGE)
    else:
        pages = size // ((PAGE - PAGE_HEADER) // (record + 2))
    return pages * PAGE + size * 64 + (1 << 20)


def write_lmdb(
    path: Path,
    split: Split,
    side: int,
    channels: int,
    encoding: str,
    seed: int,
    threads: int | None = None,
) -> str:
    """Write the split to a new LMDB and return the SHA-256 of its keys and values in key order.

    The result depends on split, side, channels, encoding and seed only, never on the number of
    threads (default: one a core; OpenCV releases the GIL). Memory stays bounded, whatever the
    split's size. The LMDB is on disk (fsync) when this returns; path is left incomplete where it
    raises, so callers write beside the final name. Raises DataError where a picture can't be used
    or the LMDB can't be written.
    """
    rows, keys = record_keys(split, seed)
    size = len(keys)
    chunk = max(1, CHUNK_BYTES // (side * side * channels))

    def make_chunk(start: int) -> list[tuple[bytes, bytes]]:
        return [
            (keys[place], make_datum(split, rows[place], side, channels, encoding))
            for place in range(start, min(start + chunk, size))
        ]

    digest = hashlib.sha256()
    # The map is address space, not disk; encoded pictures can outgrow raw ones by a little.
    map_size = size * (2 * side * side * channels + 4 * PAGE) + (64 << 20)
    threads = threads or len(os.sched_getaffinity(0))
    try:
        with (
            lmdb.open(os.fspath(path), map_size=map_size, sync=False) as env,
            tqdm(total=size, desc=path.name, unit=" pictures", disable=None) as progress,
            ThreadPoolExecutor(threads) as pool,
        ):
            for records in _in_order(pool, make_chunk, range(0, size, chunk), 2 * threads):
                with env.begin(write=True) as txn, txn.cursor() as cursor:
                    cursor.putmulti(records, append=True)
                digest.update(b"".join(itertools.chain.from_iterable(records)))
                progress.update(len(records))
            env.sync(True)
    except lmdb.Error as error:
        raise DataError(f"{path}: {error}; free some space, or use another data root") from None
    return digest.hexdigest()


def _in_order(
    pool: Executor, task: Callable[[Any], Any], arguments: Iterable, ahead: int
) -> Iterator[Any]:
    """Yield the task's results in the arguments' order, at most ``ahead`` of them made early."""
    futures = deque()
    try:
        for argument in arguments:
            futures.append(pool.submit(task, argument))
            if len(futures) > ahead:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()
