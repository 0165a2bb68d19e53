"""The one LMDB writer: a split's pictures, shuffled, as Datums that Caffe's Data layer reads."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import numpy as np
from tqdm import tqdm

from data_prep import DataError
from data_prep.dataset import Split
from data_prep.picture import to_datum

LMDB_MAX_KEY = 511  # bytes, LMDB's own limit
PAGE, PAGE_HEADER, NODE_MAX = 4096, 16, 2038  # LMDB's page, and the largest record kept in a leaf
CHUNK_BYTES = 4 << 20  # raw bytes a task: a few hundred small pictures, a score of 256x256x3 ones
COMMIT_BYTES = 64 << 20  # LMDB holds uncommitted pages in memory


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
    raises, so callers write beside the final name.
    """
    rows, keys = record_keys(split, seed)
    chunk = max(1, CHUNK_BYTES // (side * side * channels))
    digest = hashlib.sha256()
    # The map is address space, not disk; encoded pictures can outgrow raw ones by a little.
    map_size = len(keys) * (2 * side * side * channels + 4 * PAGE) + (64 << 20)
    with lmdb.open(os.fspath(path), map_size=map_size, sync=False) as env:
        txn, pending = env.begin(write=True), 0
        progress = tqdm(total=len(keys), desc=path.name, unit="pictures", disable=None)
        for records in _chunks(split, rows, keys, chunk, side, channels, encoding, threads):
            with txn.cursor() as cursor:
                cursor.putmulti(records, append=True)
            for key, value in records:
                digest.update(key)
                digest.update(value)
                pending += len(value)
            if pending > COMMIT_BYTES:
                txn.commit()
                txn, pending = env.begin(write=True), 0
            progress.update(len(records))
        txn.commit()
        env.sync(True)
        progress.close()
    return digest.hexdigest()


def _chunks(
    split: Split,
    rows: np.ndarray,
    keys: list[bytes],
    chunk: int,
    side: int,
    channels: int,
    encoding: str,
    threads: int | None,
) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield the records in key order, a chunk at a time, a few chunks made ahead by the threads."""

    def make(start: int) -> list[tuple[bytes, bytes]]:
        stop = min(start + chunk, len(rows))
        return [
            (keys[place], make_datum(split, rows[place], side, channels, encoding))
            for place in range(start, stop)
        ]

    threads = threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque()
        try:
            for start in range(0, len(rows), chunk):
                ahead.append(pool.submit(make, start))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
