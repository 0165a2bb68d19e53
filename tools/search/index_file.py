"""The files of a run's search index: read by memory map, written whole.

Two files in the run's folder:

    index-<name>.faiss  a FAISS binary index (tools/search/faiss_index.py); its ids are rows of
                        index.h5
    index.h5            attributes: faiss (that file's name), kind, bits, class_names,
                        net_fingerprint, codes_sha256 (of the codes.h5 it was made from), faiss_is
                        (size and SHA-256 of the head of the FAISS file);
                        one row a picture: codes (uint8, packed), labels (int32, -1 for none; of
                        several labels uint8, a row of 0 and 1), keys, probabilities (float32; no
                        column where the net has no classifier),
                        removed (bool);
                        of pictures that were added later, the last rows: added_features (float32)
                        and added_pictures (uint8, C x H x W, BGR)

The rename of index.h5 makes a change visible: a reader sees the old index or the new one, whole.
Row r is row r of codes.h5, features.h5 and the LMDB as well.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import faiss
import h5py
import numpy as np

from eval.features import AGAIN
from eval.files import write_atomically
from eval.hdf5 import DAMAGE, NewFile, create_hdf5, texts_of
from tools.run.failure import Failure
from tools.search import faiss_index

HEAD_BYTES = 1 << 20  # of a FAISS index
PIECE_BYTES = 16 << 20  # of a table, written at once
TABLES = {  # name: kind of its values, dimensions
    "codes": ("u", 2),
    "labels": ("i", 1),
    "keys": ("S", 1),
    "probabilities": ("f", 2),
    "removed": ("b", 1),
    "added_features": ("f", 2),
    "added_pictures": ("u", 4),
}
SEVERAL = ("u", 2)  # of labels, where a picture has several
TEXTS = ("faiss", "kind", "net_fingerprint", "codes_sha256")  # attributes


def read_tables(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Return memory maps of index.h5's datasets, and its attributes.

    Raise Failure where it is missing or damaged.
    """
    try:
        with open(path, "rb") as raw, h5py.File(raw) as file:
            tables = {name: _map(raw, file[name]) for name in TABLES}
            attributes = {name: file.attrs[name] for name in (*TEXTS, "bits", "class_names")}
            attributes["faiss_is"] = file.attrs.get("faiss_is", "")  # older ones do not say
        if _fit(tables, attributes):
            return tables, attributes
    except FileNotFoundError:
        raise Failure(f"{path} does not exist: run 'make index'") from None
    except DAMAGE:
        pass
    raise Failure(f"{path} is damaged, or no HDF5: remove it and run 'make index' again")


def _fit(tables: dict[str, np.ndarray], attributes: dict) -> bool:
    """Return whether what was read from an index.h5 is what one holds."""
    kinds = {name: (table.dtype.kind, table.ndim) for name, table in tables.items()}
    labels = tables["labels"]
    several = kinds["labels"] == SEVERAL
    expected = TABLES | ({"labels": SEVERAL} if several else {})
    added = [len(tables[name]) for name in ("added_features", "added_pictures")]
    rows = [len(table) for name, table in tables.items() if not name.startswith("added_")]
    names = texts_of(attributes["class_names"])
    return (
        kinds == expected
        and len(set(rows)) == len(set(added)) == 1
        and added[0] <= rows[0]
        and all(isinstance(attributes[name], str) for name in (*TEXTS, "faiss_is"))
        and tables["codes"].shape[1] == -(-int(attributes["bits"]) // 8)
        and names is not None
        and (labels.shape[1] if several else labels.max(initial=-1) + 1) <= len(names)
        and (not several or labels.max(initial=0) <= 1)
    )


def read_features(run: Path, attributes: dict, rows: int) -> np.ndarray | None:
    """Return features.h5's database features, mapped, or None where it has none of these rows."""
    path = run / "features.h5"
    if not path.exists():
        return None
    try:
        with open(path, "rb") as raw, h5py.File(raw) as file:
            if file.attrs["net_fingerprint"] != attributes["net_fingerprint"]:
                return None
            features = _map(raw, file["database/features"])
    except DAMAGE:
        raise Failure(f"{path} is damaged, or no HDF5: {AGAIN}") from None
    return features if features.ndim == 2 and len(features) == rows else None


def write(
    run: Path,
    tables: dict[str, Sequence[np.ndarray]],
    attributes: dict,
    built: faiss.IndexBinary | None = None,
) -> None:
    """Write index.h5, and the FAISS index that it names where a new one was built.

    tables: {name: arrays that follow one another}. Raise Failure where that cannot be written.
    """
    if built is not None:
        attributes = attributes | {"faiss": f"index-{uuid4().hex[:12]}.faiss"}
    try:
        if built is not None:
            with write_atomically(run / attributes["faiss"]) as partial, open(partial, "wb") as raw:
                # FAISS's own file writer keeps the last block's failure to itself
                faiss.write_index_binary(built, faiss.PyCallbackIOWriter(raw.write))
            attributes["faiss_is"] = mark_of(run / attributes["faiss"])
        with create_hdf5(run / "index.h5") as file:
            file.attrs.update(attributes)
            for name, parts in tables.items():
                _write_table(file, name, parts)
    except OSError as error:
        with suppress(OSError, Failure):
            tidy(run)
        raise Failure(
            f"{run / 'index.h5'} cannot be written: {error.strerror or error}; mend that and run "
            "'make index' again"
        ) from None
    tidy(run)


def read_faiss(run: Path, attributes: dict, mapped: str = "") -> faiss.IndexBinary:
    """Return the FAISS index that an index.h5 names, as faiss_index.read does.

    One that is not what was written is never given to FAISS, which dies of some damaged files.
    """
    path = run / attributes["faiss"]
    if attributes["faiss_is"] not in ("", mark_of(path)):
        raise Failure(f"{path} is damaged: remove it and run 'make index' again")
    return faiss_index.read(path, mapped)


def mark_of(path: Path) -> str:
    """Return a file's size, and the SHA-256 of its head, which says what lies where in it."""
    with open(path, "rb") as file:
        head = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
        return f"{os.fstat(file.fileno()).st_size} {head}"


def tidy(run: Path) -> None:
    """Remove the FAISS files that index.h5 does not name, and parts of some that a kill has left.

    The caller has the run's folder locked.
    """
    path = run / "index.h5"
    used = read_tables(path)[1]["faiss"] if path.exists() else None
    for path in (*run.glob("index-*.faiss"), *run.glob(".index-*.faiss.partial-*")):
        if path.name != used:
            path.unlink()


def _write_table(file: NewFile, name: str, parts: Sequence[np.ndarray]) -> None:
    """Write arrays that follow one another as one contiguous dataset."""
    parts = [part for part in parts if len(part)] or parts[-1:]
    kind = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    dataset, start = file.create_dataset(name, shape, kind), 0
    for part in parts:
        rows = max(1, PIECE_BYTES * len(part) // max(1, part.nbytes))
        for at in range(0, len(part), rows):
            piece = part[at : at + rows]
            dataset[start + at : start + at + len(piece)] = piece
            file.check()
        start += len(part)


def _map(raw: BinaryIO, dataset: h5py.Dataset) -> np.ndarray:
    """Return a contiguous dataset of an open file as a memory map."""
    if dataset.id.get_offset() is None:  # no rows
        return dataset[:]
    return np.memmap(raw, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)
