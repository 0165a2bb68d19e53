"""Read the LMDBs that lmdb_writer makes: pictures in LMDB order, and by row."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from data_prep import DataError
from data_prep import labels as label_rows
from data_prep.intact import records_of
from data_prep.picture import from_datum, label_of

MAPPED_BYTES = 64 << 20  # read before the map is closed, so that memory is independent of the file

Rows = Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]]


def iterate(path: Path) -> Iterator[tuple[int, str, int, np.ndarray]]:
    """Yield (row, key, label, picture) in LMDB order; a picture is uint8 C x H x W, BGR.

    row: in the data set's own order, the pictures that were left out counted too. label: a number,
    or (L,) uint8 of 0 and 1 where there may be several.
    """
    beside = label_rows.labels_of(path)
    rows = records(beside) if beside.is_dir() else None
    for key, value in records(path):
        picture, label = _read_record(path, value)
        if rows:
            label = _read_record(beside, next(rows)[1], label_rows.from_datum)
        yield row_of(key), name_of(key), label, picture


def records(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of every record in key order, as bytes, with bounded memory."""
    start = b"\0"
    while start:
        with _open(path) as env, env.begin() as txn, txn.cursor() as cursor:
            found, mapped = cursor.set_range(start), 0
            while found and mapped < MAPPED_BYTES:
                key, value = cursor.item()
                mapped += len(value)
                yield key, value
                found = cursor.next()
            start = cursor.key() if found else b""


def count(path: Path) -> int:
    """Return the number of an LMDB's records, 0 where there is none or its creation was cut off."""
    file = path / "data.mdb"
    if not file.is_file() or not file.stat().st_size:
        return 0
    with _open(path) as env:
        return env.stat()["entries"]


def record_keys(path: Path) -> list[bytes]:
    """Return every record's key, ``{position:08d}_{row:08d}_{key}``, in LMDB order."""
    with _open(path) as env, env.begin() as txn:
        return list(txn.cursor().iternext(keys=True, values=False))


def row_of(record: bytes) -> int:
    """Return the row that a record's key states."""
    return int(record.split(b"_", 2)[1])


def name_of(record: bytes) -> str:
    """Return the picture's own key, the last part of a record's key."""
    return record.split(b"_", 2)[2].decode()


@contextmanager
def open_rows(path: Path) -> Iterator[tuple[list[str], Rows]]:
    """Open an LMDB by row of the data set's own order; yield (keys, read).

    keys: N strings by row. read(rows): the pictures at some rows, uint8 n x C x H x W, BGR, and
    their labels, (n,) int32, or (n, L) uint8 of 0 and 1 where there may be several.
    """
    beside = label_rows.labels_of(path)
    try:
        by_row = sorted(record_keys(path), key=row_of)
        keys = [name_of(record) for record in by_row]
    except (ValueError, IndexError):
        raise DataError(f"{path} has keys that are none; {_anew(path)}") from None
    with ExitStack() as stack:
        txn = stack.enter_context(_begun(path))
        labels_txn = stack.enter_context(_begun(beside)) if beside.is_dir() else None

        def read(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            records = [_read_record(path, txn.get(by_row[int(row)])) for row in rows]
            pictures, labels = zip(*records, strict=True)
            if len({picture.shape for picture in pictures}) > 1:
                raise DataError(f"{path} holds pictures of different sizes; {_anew(path)}")
            if labels_txn is None:
                return np.stack(pictures), np.array(labels, np.int32)
            values = [labels_txn.get(by_row[int(row)], b"") for row in rows]
            found = [_read_record(beside, value, label_rows.from_datum) for value in values]
            return np.stack(pictures), np.stack(found)

        yield keys, read


def labels_of(path: Path) -> np.ndarray:
    """Return the label of every picture, (N,) int64, in LMDB order."""
    return np.array([_read_record(path, value, label_of) for _, value in records(path)], np.int64)


def largest_label(path: Path, count: int) -> int:
    """Return the largest label of an LMDB's first records, which are in no order of classes."""
    values = (value for _, value in itertools.islice(records(path), count))
    return max(_read_record(path, value, label_of) for value in values)


def check_labels(path: Path, classes: int) -> None:
    """Raise DataError where an LMDB's labels do not stand beside its pictures, or are others.

    Both have the same keys in the same order, and each row of labels is of so many classes. Where
    a picture has one label, which its own record holds, there is nothing to check.
    """
    beside = label_rows.labels_of(path)
    if not beside.is_dir():
        return
    pictures = record_keys(path)
    if pictures != record_keys(beside):
        raise DataError(
            f"{beside} has other keys than {path.name}, or in other order; {_anew(path)}"
        )
    for key, value in records(beside):
        size = len(_read_record(beside, value, label_rows.from_datum))
        if size != classes:
            raise DataError(
                f"{beside} has {size} labels under {name_of(key)}, of {classes} classes; "
                f"{_anew(path)}"
            )


def _read_record(path: Path, value: bytes, read: Callable[[bytes], Any] = from_datum) -> Any:
    """Return read(value); DataError with the LMDB's name where it fails."""
    try:
        return read(value)
    except DataError as error:
        raise DataError(f"{path} {error}; {_anew(path)}") from None


def _anew(path: Path) -> str:
    return f"remove {path.parent} and make it anew"


@contextmanager
def _begun(path: Path) -> Iterator[lmdb.Transaction]:
    with _open(path) as env, env.begin(buffers=True) as txn:
        yield txn


@contextmanager
def _open(path: Path) -> Iterator[lmdb.Environment]:
    if (path / "data.mdb").is_file():
        records_of(path)  # LMDB itself would die where the file is cut short
    try:
        with lmdb.open(os.fspath(path), readonly=True, lock=False, create=False) as env:
            yield env
    except lmdb.Error as error:
        raise DataError(f"{path}: not an LMDB that can be read ({error}); {_anew(path)}") from None
