"""Write a split's pictures, shuffled, to an LMDB of Datums that Caffe's Data layer reads."""

import ctypes
import hashlib
import mmap
import multiprocessing
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import cv2
import lmdb
import numpy as np
from tqdm import tqdm

from data_prep import DataError
from data_prep.dataset import Split
from data_prep.lmdb_reader import count, record_keys, records
from data_prep.picture import to_datum

LMDB_MAX_KEY = 511  # bytes, LMDB's own limit
PAGE, PAGE_HEADER, NODE_MAX = 4096, 16, 2038  # LMDB's page, and the largest record kept in a leaf
CHUNK_BYTES = 1 << 20  # raw bytes a task: 1,337 28x28x1 pictures, 5 256x256x3 ones
COMMIT_BYTES = 32 << 20  # bytes of values a commit: as much has to be made again after a kill
Pairs = list[tuple[bytes, bytes | memoryview]]  # keys and values
Chunk = tuple[Pairs, list[str]]  # and a sentence on each picture that was left out
PR_SET_PDEATHSIG = 1
ADVICE = "replace it or remove it, or leave such pictures out (SKIP=1 of make, --skip of data_prep)"


def shuffled_rows(size: int, seed: int) -> np.ndarray:
    """Return the rows in LMDB order, (size,) int64.

    Both splits are shuffled: training for SGD, and testing since Caffe's test phase averages over
    the first test_iter batches, which must not be of one class.
    RandomState's permutation is frozen for ever (NEP 19); the newer Generator's is not.
    """
    return np.random.RandomState(seed).permutation(size)


def record_key(place: int, row: int, key: str) -> bytes:
    """Return a record's key, ``{position:08d}_{row:08d}_{key}``."""
    return f"{place:08d}_{row:08d}_{key}".encode()


def check_keys(split: Split) -> None:
    """Raise DataError where a record's key is longer than LMDB takes."""
    longest = max(split.keys, key=lambda key: len(key.encode()))
    size = len(record_key(0, 0, longest))
    if size > LMDB_MAX_KEY:
        raise DataError(
            f"{split.origin}: the path {longest} makes a key of {size} bytes and LMDB takes "
            f"{LMDB_MAX_KEY}; shorten its name"
        )


def chunk_size(side: int, channels: int) -> int:
    """Return the number of pictures that a task makes; commits are of whole tasks."""
    return max(1, CHUNK_BYTES // (side * side * channels))


def make_datum(split: Split, row: int, side: int, channels: int, encoding: str) -> bytes:
    """Return a row's serialized Datum; DataError names the picture."""
    try:
        label = int(split.labels[row])
        return to_datum(split.read(row), label, side, channels, encoding)
    except DataError as error:
        raise DataError(f"{split.origin}/{split.keys[row]} {error}") from None


def estimate_bytes(
    split: Split, side: int, channels: int, encoding: str, skip: bool = False
) -> int:
    """Return the size in bytes that the split's LMDB will have, within a few percent.

    Raw records all have one size; of encoded ones 32 evenly spaced pictures are encoded, without
    those that can't be used where skip is set.
    """
    size = len(split.keys)
    if encoding == "raw":
        value = side * side * channels + 24
    else:
        sample = np.unique(np.linspace(0, size - 1, 32).astype(int))
        values = []
        for row in sample:
            try:
                values.append(len(make_datum(split, row, side, channels, encoding)))
            except DataError as error:
                if not skip:
                    raise DataError(f"{error}; {ADVICE}") from None
        value = int(np.mean(values)) if values else 0
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
    processes: int | None = None,
    skip: bool = False,
) -> str:
    """Write the split to an LMDB and return the SHA-256 of its keys and values in key order.

    The result depends on split, side, channels, encoding and seed only, never on the number of
    processes that make the records (default: one a core), nor on how often the writing was
    interrupted: records are committed, with fsync, every COMMIT_BYTES, and an LMDB that holds
    the first records of the same split is continued behind them. Memory stays bounded, whatever
    the split's size. path is left incomplete where this raises, so callers give it its final name
    later. skip: leave out, with a line on stderr, the pictures that can't be used; without skip,
    those that an earlier call left out are tried again. Raises DataError where a picture can't be
    used, the LMDB can't be written, or it holds other records.
    """
    check_keys(split)
    size = len(split.keys)
    rows = shuffled_rows(size, seed)
    chunk = chunk_size(side, channels)

    def key_at(place: int) -> bytes:
        return record_key(place, rows[place], split.keys[rows[place]])

    def value_at(place: int) -> bytes:
        try:
            return make_datum(split, rows[place], side, channels, encoding)
        except DataError as error:
            raise DataError(str(error) if skip else f"{error}; {ADVICE}") from None

    def make_chunk(start: int) -> Chunk:
        pairs, left_out = [], []
        for place in range(start, min(start + chunk, size)):
            try:
                pairs.append((key_at(place), value_at(place)))
            except DataError as error:
                if not skip:
                    raise
                left_out.append(str(error))
        return pairs, left_out

    digest = hashlib.sha256()
    last = _take_committed(path, size, key_at, digest.update)
    start = min((last // chunk + 1) * chunk, size)  # commits are of whole chunks
    if not skip and count(path) < start:  # an earlier call left pictures out
        there = set(record_keys(path))
        for place in range(start):
            if key_at(place) not in there:
                value_at(place)
        print(f"{path}: pictures that were left out there can be read now; starting anew")
        shutil.rmtree(path)
        digest, start = hashlib.sha256(), 0
    if start:
        print(f"{path}: {start} of {size} pictures are there; going on", flush=True)
    # The map is address space, not disk; encoded pictures can outgrow raw ones by a little.
    map_size = size * (2 * side * side * channels + 4 * PAGE) + (64 << 20)
    starts = range(start, size, chunk)
    try:
        with (
            # forked before there are threads, and an LMDB, which may not be taken along
            _makers(make_chunk, processes or len(os.sched_getaffinity(0))) as chunks,
            lmdb.open(os.fspath(path), map_size=map_size) as env,
            tqdm(
                total=size, initial=start, desc=path.name, unit=" pictures", disable=None
            ) as progress,
            ThreadPoolExecutor(1) as committer,  # pictures are made while the disk is written
        ):
            pending, pending_bytes, committed = [], 0, None
            for made, left_out in chunks(starts):
                for sentence in left_out:
                    tqdm.write(f"left out: {sentence}", file=sys.stderr)
                for key, value in made:
                    digest.update(key)
                    digest.update(value)
                    pending_bytes += len(value)
                pending += made
                if pending_bytes >= COMMIT_BYTES:
                    if committed:
                        committed.result()
                    committed = committer.submit(_commit, env, pending)
                    pending, pending_bytes = [], 0
                progress.update(min(chunk, size - progress.n))
            if committed:
                committed.result()
            _commit(env, pending)
    except lmdb.Error as error:
        why = str(error).removeprefix(f"{path}: ")  # LMDB calls a disk that fills up broken
        raise DataError(
            f"{path}: {why}; free some space or mend the disk, or use another data root"
        ) from None
    except BrokenProcessPool:
        raise DataError(
            f"{path}: a process that reads pictures was killed, perhaps for want of memory; the "
            "same command goes on"
        ) from None
    (path / "lock.mdb").chmod(0o666)  # whoever reads an LMDB writes there
    return digest.hexdigest()


def _take_committed(
    path: Path, size: int, key_at: Callable[[int], bytes], take: Callable[[bytes], None]
) -> int:
    """Give each key and value that an LMDB holds to take; return the last one's place, or -1.

    Raises DataError where they are not, in order, records of the places below size.
    """
    last = -1
    if not count(path):
        return last
    for key, value in records(path):
        place = int(key[:8]) if key[:8].isdigit() else size
        if not last < place < size or key != key_at(place):
            raise DataError(f"{path}: holds records of another data set; remove {path.parent}")
        take(key)
        take(value)
        last = place
    return last


def _commit(env: lmdb.Environment, pairs: Pairs) -> None:
    with env.begin(write=True) as txn, txn.cursor() as cursor:
        cursor.putmulti(pairs, append=True)


# ---- the processes that make records: threads would wait for each other's Python -----------------

ROOM = 2 * CHUNK_BYTES  # bytes for a chunk's values; larger ones take a slower way
_make: Callable[[int], Chunk]
_memory: mmap.mmap


@contextmanager
def _makers(make: Callable[[int], Chunk], count: int) -> Iterator[Callable[[Iterable], Iterator]]:
    """Give a function that yields make(start) of each start, in order, made by count processes.

    They are forked, so that make can be any function, and die with the process that started them.
    A chunk's values come through memory that all share, as memoryviews.
    """
    ahead = 2 * count
    memory = mmap.mmap(-1, (ahead + 1) * ROOM)
    cv2_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # a forked process has none of OpenCV's threads, and would wait for them
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context("fork"), _begin, (make, memory, os.getpid())
    )

    def taken(place: int, future: Future) -> Chunk:
        keys, sizes, values, left_out = future.result()
        if values is None:
            values = memory[place : place + sum(sizes)]
        view, at, made = memoryview(values), 0, []
        for key, size in zip(keys, sizes, strict=True):
            made.append((key, view[at : at + size]))
            at += size
        return made, left_out

    def chunks(starts: Iterable[int]) -> Iterator[Chunk]:
        pending = deque()
        for number, start in enumerate(starts):
            place = number % (ahead + 1) * ROOM  # of a chunk that has been taken
            pending.append((place, pool.submit(_make_into, start, place)))
            if len(pending) > ahead:
                yield taken(*pending.popleft())
        while pending:
            yield taken(*pending.popleft())

    try:
        pool.submit(int).result()  # all are forked with the first task
        yield chunks
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(cv2_threads)


def _begin(make: Callable[[int], Chunk], memory: mmap.mmap, parent: int) -> None:
    global _make, _memory
    _make, _memory = make, memory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _make_into(start: int, place: int) -> tuple[list[bytes], list[int], bytes | None, list[str]]:
    """Return a chunk's keys, its values' sizes, these where they have no room, and what it says."""
    made, left_out = _make(start)
    values = b"".join(value for _, value in made)
    keys, sizes = [key for key, _ in made], [len(value) for _, value in made]
    if len(values) > ROOM:
        return keys, sizes, values, left_out
    _memory[place : place + len(values)] = values
    return keys, sizes, None, left_out
