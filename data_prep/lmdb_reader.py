"""Reads the LMDBs that lmdb_writer makes: pictures in LMDB order, and by row."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np

from data_prep import DataError
from data_prep.picture import from_datum


def read_keys(path: Path) -> tuple[np.ndarray, list[str]]:
    """Return an LMDB's rows and keys.

    rows: (N,) int64, the row in the data set's own order of each record in LMDB order, the order
        in which Caffe's Data layer meets them: ``codes[rows] = output`` puts outputs in rows.
    keys: N strings by row, each leading back to its picture.
    """
    records = _record_keys(path)
    rows = np.array([int(key.split(b"_", 2)[1]) for key in records], np.int64)
    keys = [""] * len(records)
    for row, key in zip(rows, records, strict=True):
        keys[row] = key.split(b"_", 2)[2].decode()
    return rows, keys


def iterate(path: Path) -> Iterator[tuple[int, str, int, np.ndarray]]:
    """Yield (row, key, label, picture) in LMDB order; a picture is uint8 C x H x W, BGR."""
    with _open(path) as env, env.begin(buffers=True) as txn:
        for key, value in txn.cursor():
            _, row, name = bytes(key).split(b"_", 2)
            picture, label = from_datum(value)
            yield int(row), name.decode(), label, picture


@contextmanager
def open_rows(path: Path) -> Iterator[tuple[list[str], Callable]]:
    """Open an LMDB by row of the data set's own order; yield (keys, read).

    keys: N strings by row. read(rows): the pictures at some rows, uint8 n x C x H x W, BGR, and
    their labels, (n,) int32.
    """
    record_of = {int(key.split(b"_", 2)[1]): key for key in _record_keys(path)}
    keys = [record_of[row].split(b"_", 2)[2].decode() for row in range(len(record_of))]
    with _open(path) as env, env.begin(buffers=True) as txn:

        def read(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            records = [from_datum(txn.get(record_of[int(row)])) for row in rows]
            pictures, labels = zip(*records, strict=True)
            return np.stack(pictures), np.array(labels, np.int32)

        yield keys, read


def _open(path: Path) -> lmdb.Environment:
    try:
        return lmdb.open(os.fspath(path), readonly=True, lock=False, create=False)
    except lmdb.Error as error:
        raise DataError(f"{path}: not an LMDB that can be read ({error}); make it anew") from None


def _record_keys(path: Path) -> list[bytes]:
    with _open(path) as env, env.begin() as txn:
        return list(txn.cursor().iternext(keys=True, values=False))
