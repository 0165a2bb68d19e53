"""The features file, features.h5 of a run: what `make codes FEATURES=1` writes, with every check.

    attributes        blob (the layer), net_fingerprint
    database, query   groups, each with `features`, N x F float32, in the rows of codes.h5

Labels, keys and names are those of the codes.h5 beside it.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from eval.codes import Codes, Split, read_codes
from eval.files import InputError


class Features(NamedTuple):
    """database, query: (N, F) and (Q, F) float32. rows: their labels, keys and names."""

    path: Path
    blob: str
    sha256: str
    database: np.ndarray
    query: np.ndarray
    rows: Codes


def read_features(run: Path) -> Features:
    """Features of a run's folder, in memory, checked against its codes.h5.

    Raises InputError, naming the file, where one is missing, damaged or of other weights.
    """
    path = run / "features.h5"
    if not path.exists():
        raise InputError(f"{path} does not exist; run make codes FEATURES=1 for that run")
    rows = read_codes(run / "codes.h5")
    try:
        with h5py.File(path, "r") as file:
            blob, mark = file.attrs.get("blob"), file.attrs.get("net_fingerprint")
            if mark != rows.net_fingerprint:
                raise InputError(
                    f"{path} is of other weights than the codes.h5 beside it; "
                    "run make codes FEATURES=1 again"
                )
            database = _read_split(file, "database", rows.database, path)
            query = _read_split(file, "query", rows.query, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as HDF5 ({' '.join(str(error).split())}); "
            "run make codes FEATURES=1 again"
        ) from None
    if database.shape[1] != query.shape[1]:
        raise InputError(
            f"{path} has {database.shape[1]} features in 'database' and {query.shape[1]} in "
            "'query'; run make codes FEATURES=1 again"
        )
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Features(path, blob, sha256, database, query, rows)


def _read_split(file: h5py.File, name: str, rows: Split, path: Path) -> np.ndarray:
    if f"{name}/features" not in file:
        raise InputError(f"{path} has no '{name}/features'; run make codes FEATURES=1 again")
    features = file[name]["features"][:]
    if features.ndim != 2 or features.dtype != np.float32 or len(features) != len(rows.labels):
        raise InputError(
            f"{path}: '{name}/features' is {features.dtype} {features.shape}, but must be float32 "
            f"with the {len(rows.labels)} rows of codes.h5"
        )
    if not np.isfinite(features).all():
        raise InputError(f"{path}: '{name}/features' holds a value that is not finite")
    if rows.labels.ndim == 2:
        raise InputError(
            f"{path}: pictures with several labels are not what KSH and CCA learn from"
        )
    return features
