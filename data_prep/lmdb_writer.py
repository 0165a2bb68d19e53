"""Write a split's pictures, shuffled, to an LMDB of Datums that Caffe's Data layer reads."""

import hashlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from tqdm import tqdm

from data_prep import DataError
from data_prep import labels as label_rows
from data_prep.dataset import Split
from data_prep.files import sync, write_synced
from data_prep.lmdb_reader import count, record_keys, records, row_of
from data_prep.makers import Chunk, Pairs, makers
from data_prep.picture import fit, raw_room, to_datum, write_raw

LMDB_MAX_KEY = 511  # bytes, LMDB's own limit
PAGE, PAGE_HEADER, NODE_MAX = 4096, 16, 2038  # LMDB's page, and the largest record kept in a leaf
CHUNK_BYTES = 1 << 20  # raw bytes a task: 1,337 28x28x1 pictures, 5 256x256x3 ones
UNSYNCED, BOOT = "unsynced", Path("/proc/sys/kernel/random/boot_id")
LABELS_COMMIT = 10_000  # rows of labels a commit
GROUP = 16  # pictures that are read before they are decoded
COMMIT_BYTES = 16 << 20  # bytes of values a commit: as much has to be made again after a kill
KEPT = 16  # chunks that wait, in memory, while the disk is written
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


def check_keys(split: Split) -> int:
    """Return the largest size in bytes of a record's key; DataError where LMDB does not take it."""
    longest = max(split.keys, key=lambda key: len(key.encode()))
    size = len(record_key(0, 0, longest))
    if size > LMDB_MAX_KEY:
        raise DataError(
            f"{split.origin}: the path {longest} makes a key of {size} bytes and LMDB takes "
            f"{LMDB_MAX_KEY}; shorten its name"
        )
    return size


def chunk_size(side: int, channels: int) -> int:
    """Return the number of pictures that a task makes; commits are of whole tasks."""
    return max(1, CHUNK_BYTES // (side * side * channels))


def pictures(
    split: Split, rows: Sequence[int], side: int, channels: int
) -> Iterator[tuple[int, np.ndarray | DataError]]:
    """Yield each row with its picture as fit gives it, or with what keeps it from being used.

    GROUP files are read, then decoded: a small picture takes two thirds of the time where one step
    is done often, in a processor's cache, before the next one. Where there may be several labels, a
    picture that has none at all cannot be used.
    """

    def read(row: int) -> bytes | np.ndarray:
        if split.labels.ndim == 2 and not split.labels[row].any():
            raise DataError("has no label")
        return split.read(row)

    def fitted(source: bytes | np.ndarray | DataError) -> np.ndarray | DataError:
        return source if isinstance(source, DataError) else fit(source, side, channels)

    for start in range(0, len(rows), GROUP):
        group = rows[start : start + GROUP]
        sources = [_or_error(read, row) for row in group]
        yield from zip(group, [_or_error(fitted, source) for source in sources], strict=True)


def _or_error(step: Callable, value: Any) -> Any:
    try:
        return step(value)
    except DataError as error:
        return error


def label_at(split: Split, row: int) -> int:
    """Return the label of a row's Datum, which has none of several (data_prep/labels.py)."""
    return 0 if split.labels.ndim == 2 else int(split.labels[row])


def refusal(split: Split, row: int, error: DataError, skip: bool) -> DataError:
    """Return the error that names the picture, and without skip what can be done."""
    sentence = f"{split.origin}/{split.keys[row]} {error}"
    return DataError(sentence if skip else f"{sentence}; {ADVICE}")


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
        for row, picture in pictures(split, sample, side, channels):
            if not isinstance(picture, DataError):
                values.append(len(to_datum(picture, label_at(split, row), encoding)))
            elif not skip:
                raise refusal(split, row, picture, skip)
        value = int(np.mean(values)) if values else 0
    key = 18 + len(split.keys[0].encode())
    record = 8 + key + value
    if record > NODE_MAX:
        pages = size * -(-(value + PAGE_HEADER) // PAGE)
    else:
        pages = size // ((PAGE - PAGE_HEADER) // (record + 2))
    if np.ndim(split.labels) == 2:  # an LMDB of their own
        pages += size // ((PAGE - PAGE_HEADER) // (8 + key + split.labels.shape[1] + 16))
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
    interrupted: records are committed every COMMIT_BYTES, and an LMDB that holds the first records
    of the same split is continued behind them, but for one that was being written when the machine
    went down. All is on disk when this returns. Memory stays bounded, whatever the split's size.
    path is left incomplete where this raises, so callers give it its final name later. skip: leave
    out, with a line on stderr, the pictures that can't be used; without skip, those that an earlier
    call left out are tried again. Raises DataError where a picture can't be used, the LMDB can't be
    written, or it holds other records; OSError where the disk fails.
    """
    key_room = check_keys(split)
    size = len(split.keys)
    rows = shuffled_rows(size, seed)
    chunk = chunk_size(side, channels)

    def key_at(place: int) -> bytes:
        return record_key(place, rows[place], split.keys[rows[place]])

    def make_chunk(start: int, room: memoryview) -> Chunk:
        made, at = Chunk([], []), 0
        of_chunk = rows[start : start + chunk].tolist()
        for place, (row, picture) in enumerate(pictures(split, of_chunk, side, channels), start):
            if isinstance(picture, DataError):
                error = refusal(split, row, picture, skip)
                if not skip:
                    raise error
                made.left_out.append(str(error))
                continue
            key, label = record_key(place, row, split.keys[row]), label_at(split, row)
            if encoding == "raw":
                behind = at + len(key)
                room[at:behind] = key
                value = write_raw(picture, label, room[behind:])
                made.records.append((len(key), value))
                at = behind + value
            else:
                made.records.append((key, to_datum(picture, label, encoding)))
        return made

    _begin(path)
    digest = hashlib.sha256()
    last = _take_committed(path, size, key_at, digest.update)
    start = min((last // chunk + 1) * chunk, size)  # commits are of whole chunks
    if not skip and count(path) < start:  # an earlier call left pictures out
        there = set(record_keys(path))
        absent = [rows[place] for place in range(start) if key_at(place) not in there]
        for row, picture in pictures(split, absent, side, channels):
            if isinstance(picture, DataError):
                raise refusal(split, row, picture, skip)
        print(f"{path}: pictures that were left out there can be read now; starting anew")
        shutil.rmtree(path)
        _begin(path)
        digest, start = hashlib.sha256(), 0
    if start:
        print(f"{path}: {start} of {size} pictures are there; going on", flush=True)
    # The map is address space, not disk; encoded pictures can outgrow raw ones by a little.
    map_size = size * (2 * side * side * channels + 4 * PAGE) + (64 << 20)
    starts = range(start, size, chunk)
    # Raw records stay where they were made until LMDB has them.
    room = chunk * (key_room + raw_room(side, channels)) if encoding == "raw" else 0
    try:
        with (
            # forked before there are threads, and an LMDB, which may not be taken along
            makers(
                make_chunk, processes or len(os.sched_getaffinity(0)), room=room, kept=KEPT
            ) as chunks,
            # _storing brings it to the disk
            lmdb.open(os.fspath(path), map_size=map_size, sync=False) as env,
            tqdm(
                total=size, initial=start, desc=path.name, unit=" pictures", disable=None
            ) as progress,
            _storing(env, path) as store,
        ):
            waiting = deque()
            for pairs, pieces, left_out in chunks(starts):
                for sentence in left_out:
                    tqdm.write(f"left out: {sentence}", file=sys.stderr)
                waiting.append(store(pairs))
                for piece in pieces:
                    digest.update(piece)
                if len(waiting) > KEPT:
                    waiting.popleft().result()
                progress.update(min(chunk, size - progress.n))
            for each in waiting:
                each.result()
    except lmdb.Error as error:
        raise _not_written(path, error) from None
    except BrokenProcessPool:
        raise DataError(
            f"{path}: a process that reads pictures was killed, perhaps for want of memory; the "
            "same command goes on"
        ) from None
    (path / "lock.mdb").chmod(0o666)  # whoever reads an LMDB writes there
    (path / UNSYNCED).unlink()
    return digest.hexdigest()


def write_labels(pictures: Path, split: Split) -> str:
    """Write the LMDB of the labels beside that of the pictures, anew; return as write_lmdb does.

    pictures: the finished LMDB of the split's pictures. split: with (N, L) labels.
    """
    path, digest = label_rows.labels_of(pictures), hashlib.sha256()
    shutil.rmtree(path, ignore_errors=True)
    keys = record_keys(pictures)
    map_size = len(keys) * (split.labels.shape[1] + LMDB_MAX_KEY + PAGE) + (64 << 20)
    try:
        with lmdb.open(os.fspath(path), map_size=map_size) as env:
            for start in range(0, len(keys), LABELS_COMMIT):
                pairs = [
                    (key, label_rows.to_datum(split.labels[row_of(key)]))
                    for key in keys[start : start + LABELS_COMMIT]
                ]
                for key, value in pairs:
                    digest.update(key)
                    digest.update(value)
                with env.begin(write=True) as transaction:
                    _put(transaction, pairs)
    except lmdb.Error as error:
        raise _not_written(path, error) from None
    (path / "lock.mdb").chmod(0o666)  # whoever reads an LMDB writes there
    return digest.hexdigest()


def _not_written(path: Path, error: lmdb.Error) -> DataError:
    why = str(error).removeprefix(f"{path}: ")  # LMDB calls a disk that fills up broken
    return DataError(f"{path}: {why}; free some space or mend the disk, or use another data root")


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


def _begin(path: Path) -> None:
    """Make the folder of an LMDB that is to be written, or to be gone on with.

    Until all is on disk a file there names the machine's boot: after another one, or where the disk
    failed, it is not known which pages reached the disk, and the LMDB is begun anew.
    """
    boot, mark = BOOT.read_bytes(), path / UNSYNCED
    if mark.exists() and mark.read_bytes() != boot:
        print(f"{path}: not all that was written reached the disk; starting anew")
        shutil.rmtree(path)
    path.mkdir(exist_ok=True)
    if not mark.exists():
        write_synced(mark, boot)
        sync(path)


@contextmanager
def _storing(env: lmdb.Environment, path: Path) -> Iterator[Callable[[Pairs], Future]]:
    """Give a function that has a thread put records into an LMDB, behind those before.

    They are committed every COMMIT_BYTES and at the end, and go to the disk while the next ones are
    put. Where something fails, what was not committed until then is given up, and nothing is put
    behind the gap.
    """
    transaction: lmdb.Transaction | None = None
    size, whole = 0, True
    written = deque()
    file = os.open(path / "data.mdb", os.O_RDONLY)

    def put(pairs: Pairs) -> None:
        nonlocal transaction, size, whole
        if not whole:
            return
        whole = False
        transaction = transaction or env.begin(write=True)
        _put(transaction, pairs)
        size += sum(len(value) for _, value in pairs)
        if size >= COMMIT_BYTES:
            commit()
        whole = True

    def commit() -> None:
        nonlocal transaction, size
        if transaction:
            transaction.commit()
            written.append(disk.submit(bring_to_disk))
            if len(written) > 1:
                written.popleft().result()
        transaction, size = None, 0

    def bring_to_disk() -> None:
        try:
            os.fdatasync(file)
        except OSError:
            with suppress(OSError):
                (path / UNSYNCED).write_bytes(b"")
            raise

    def give_up() -> None:
        if transaction:
            transaction.abort()

    try:
        with ThreadPoolExecutor(1) as disk, ThreadPoolExecutor(1) as thread:
            try:  # a transaction belongs to one thread
                yield lambda pairs: thread.submit(put, pairs)
                thread.submit(commit).result()
                for each in written:
                    each.result()
                bring_to_disk()  # what an earlier call committed, too
            finally:
                thread.submit(give_up)
    finally:
        os.close(file)


def _put(transaction: lmdb.Transaction, pairs: Pairs) -> None:
    with transaction.cursor() as cursor:
        cursor.putmulti(pairs, append=True)
