"""The features file, features.h5 of a run: what `make codes FEATURES=1` writes, with every check.

attributes        blob (the layer), class_names, dataset, net, net_fingerprint, row_order
database, query   groups, one row a picture, each with
  features        N x F float32
  labels          N int32, or N x L uint8 of 0 and 1 where a picture has several labels
  key             N fixed-length UTF-8 strings that lead back to the pictures
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from eval.files import InputError
from eval.hdf5 import open_hdf5, text_of, texts_of

AGAIN = "run make codes FEATURES=1 for that run again"


class Rows(NamedTuple):
    """One group: features (N, F) float32, labels (N,) int32 or (N, L) uint8, keys (N,) bytes."""

    features: np.ndarray
    labels: np.ndarray
    keys: np.ndarray


class Features(NamedTuple):
    """A features file, in memory: its attributes, its rows, and the SHA-256 (hex) of the file."""

    path: Path
    sha256: str
    blob: str
    class_names: list[str]
    dataset: str
    net: str
    net_fingerprint: str
    row_order: str
    database: Rows
    query: Rows


def read_features(path: Path) -> Features:
    """Read and check a features file; raise InputError, naming it, where something is wrong."""
    if not path.exists():
        raise InputError(f"{path} does not exist; {AGAIN.removesuffix(' again')}")
    with open_hdf5(path, AGAIN) as file:
        names = ("blob", "dataset", "net", "net_fingerprint", "row_order")
        missing = [name for name in (*names, "class_names") if name not in file.attrs]
        if missing:
            raise InputError(f"{path} has no attribute {missing[0]!r}; {AGAIN}")
        facts = {name: text_of(file.attrs[name]) for name in names}
        class_names = texts_of(file.attrs["class_names"])
        for name, value in {**facts, "class_names": class_names}.items():
            if value is None:
                raise InputError(f"{path}: attribute {name!r} is no text; {AGAIN}")
        database, query = (_read_rows(file, name, path) for name in ("database", "query"))
    sizes = database.features.shape[1], query.features.shape[1]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{path} has {sizes[0]} features in 'database' and {sizes[1]} in 'query'; {AGAIN}"
        )
    if database.labels.shape[1:] != query.labels.shape[1:]:
        raise InputError(
            f"{path} has labels {database.labels.shape} in 'database' and {query.labels.shape} in "
            f"'query'; {AGAIN}"
        )
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Features(
        path=path,
        sha256=sha256,
        class_names=class_names,
        database=database,
        query=query,
        **facts,
    )


def read_fingerprint(path: Path) -> str | None:
    """Return the fingerprint of the net whose features a file holds, None where it has none.

    Raises InputError, naming the file, where it cannot be read.
    """
    with open_hdf5(path, AGAIN) as file:
        return text_of(file.attrs.get("net_fingerprint"))


def _read_rows(file: h5py.File, name: str, path: Path) -> Rows:
    for part in ("features", "labels", "key"):
        if f"{name}/{part}" not in file:
            raise InputError(f"{path} has no '{name}/{part}'; {AGAIN}")
        if not isinstance(file[name][part], h5py.Dataset) or file[name][part].ndim == 0:
            raise InputError(f"{path}: '{name}/{part}' is no rows; {AGAIN}")
    rows = Rows(*(file[name][part][:] for part in ("features", "labels", "key")))
    if rows.labels.dtype.kind not in "iu" or rows.labels.min(initial=0) < 0:
        raise InputError(f"{path}: '{name}/labels' are no numbers of classes, from 0 up; {AGAIN}")
    if rows.features.ndim != 2 or rows.features.dtype != np.float32 or not rows.features.size:
        raise InputError(
            f"{path}: '{name}/features' is {rows.features.dtype} {rows.features.shape}, but must "
            f"be float32, one row a picture; {AGAIN}"
        )
    if rows.labels.ndim not in (1, 2) or not len(rows.features) == len(rows.labels) == len(
        rows.keys
    ):
        raise InputError(
            f"{path}: '{name}' has {len(rows.features)} features, labels {rows.labels.shape} and "
            f"{len(rows.keys)} keys, but must have one of each a picture; {AGAIN}"
        )
    if rows.labels.ndim == 2 and not (rows.labels.size and rows.labels.max() <= 1):
        raise InputError(f"{path}: '{name}/labels' holds values other than 0 and 1; {AGAIN}")
    if not np.isfinite(rows.features).all():
        raise InputError(f"{path}: '{name}/features' holds a value that is not finite; {AGAIN}")
    return rows
