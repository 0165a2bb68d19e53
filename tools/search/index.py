"""The search index of a run: FAISS over its database codes, and what each row is.

tools/search/index_file.py has the files' format. A removed picture is only marked, so that rows
keep their numbers for ever.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import faiss
import h5py
import numpy as np

from data_prep.files import only_one
from eval.codes import codes_sha256, read_codes
from eval.hdf5 import open_hdf5
from tools.run import record
from tools.run.failure import Failure
from tools.search.faiss_index import FLAT_ROWS, build, padded
from tools.search.index_file import read_faiss, read_features, read_tables, tidy, write

POOL = 10_000  # nearest codes, at most, that the second stage looks at


@dataclass(frozen=True)
class Index:
    """An open index. Arrays are memory maps of N rows; see tools/search/index_file.py.

    features: (N - M, F) float32 of features.h5, or None where there is none of this net.
    added_features, added_pictures: of the last M rows. fingerprint: of the net. labels: (N,) int32,
    -1 for none, or (N, L) uint8 of 0 and 1 where a picture has several.
    """

    faiss: faiss.IndexBinary
    kind: str
    bits: int
    class_names: list[str]
    fingerprint: str
    codes: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    probabilities: np.ndarray
    removed: np.ndarray
    features: np.ndarray | None
    added_features: np.ndarray
    added_pictures: np.ndarray

    @property
    def base(self) -> int:
        """Return the number of rows that codes.h5 has as well: those behind them were added."""
        return len(self.codes) - len(self.added_pictures)

    @property
    def several(self) -> bool:
        """Return whether pictures have several labels."""
        return self.labels.ndim == 2

    def label_names(self, row: int) -> list[str]:
        """Return the names of a row's labels, none of a picture that was added without any."""
        label = self.labels[row]
        carried = np.flatnonzero(label) if self.several else [label] if label >= 0 else []
        return [self.class_names[each] for each in carried]


def open_index(run: Path) -> Index:
    """Open the index of a run's folder.

    Raise Failure where there is none, it is damaged, or it is of other weights than the run's
    model: `create(run)` then makes it.
    """
    path = run / "index.h5"
    for attempt in (1, 2):  # a change between the two opens has removed the first .faiss file
        tables, attributes = read_tables(path)
        if attributes["net_fingerprint"] != _fingerprint(run):
            raise Failure(f"{path} holds codes of other weights: run 'make index' again")
        try:
            index = read_faiss(run, attributes, attributes["kind"])
            break
        except FileNotFoundError:
            if attempt == 2:
                raise Failure(
                    f"{run / attributes['faiss']} is missing: run 'make index' again"
                ) from None
    if index.ntotal != len(tables["codes"]):
        raise Failure(
            f"{path} has {len(tables['codes'])} rows and {attributes['faiss']} has "
            f"{index.ntotal}: remove both and run 'make index' again"
        )
    base = len(tables["codes"]) - len(tables["added_features"])
    return Index(
        faiss=index,
        kind=attributes["kind"],
        bits=int(attributes["bits"]),
        class_names=list(attributes["class_names"]),
        fingerprint=attributes["net_fingerprint"],
        features=read_features(run, attributes, base),
        **tables,
    )


def nearest(
    index: Index, codes: np.ndarray, top: int, category: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, distances) of the `top` nearest pictures to each code.

    codes: (n, ceil(bits/8)) uint8, packed as in codes.h5, of the index's own net. category: a
    class number; its pictures alone, whatever other labels they have, are looked at, and exactly,
    whatever the index's kind.
    rows: (n, top) int64 and distances: (n, top) int32, ascending; both -1 where there are fewer.
    Ties stand in row order where the index is flat or a category is given.
    """
    queries = padded(codes, index.bits)
    if category is not None:
        of_category = index.labels[:, category] > 0 if index.several else index.labels == category
        among = np.flatnonzero(of_category & ~index.removed)
        database = padded(index.codes[among], index.bits)
        distances = rows = np.empty((len(queries), 0), np.int64)
        if len(among):  # FAISS takes no empty database
            distances, rows = faiss.knn_hamming(queries, database, min(top, len(among)), "mc")
        return _fill(among[rows], distances, np.zeros(rows.shape, bool), top)
    total = len(index.codes)
    any_removed = bool(index.removed.any())
    count = min(top, total)
    while True:
        distances, rows = index.faiss.search(queries, count)
        unwanted = (rows < 0) | index.removed[rows]
        short = ((~unwanted).sum(axis=1) < top) & (rows >= 0).all(axis=1)
        if not any_removed or count == total or not short.any():
            return _fill(rows, distances, unwanted, top)
        count = min(4 * count, total)


def refine(
    index: Index,
    rows: np.ndarray,
    distances: np.ndarray,
    query_features: np.ndarray,
    *,
    radius: int,
    top: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the papers' second stage (CVPRW'15, "hierarchical deep search").

    Candidates are ordered by the Euclidean distance of their features to the query's.

    rows, distances: (n, m), what `nearest` returned for m = POOL, say; those of Hamming distance
    <= radius are the candidates. query_features: (n, F) float32, of the same layer as features.h5.
    The result is rows (n, top) int64 and Euclidean distances (n, top) float32, ascending, ties in
    the order of `rows`; -1 and infinity where there are fewer. Raise Failure without features.
    """
    if index.features is None:
        raise Failure("there is no features.h5 of these weights: run 'make codes FEATURES=1'")
    found = np.full((len(rows), top), -1, np.int64)
    euclidean = np.full((len(rows), top), np.inf, np.float32)
    for i, features in enumerate(query_features):
        candidates = rows[i][(rows[i] >= 0) & (distances[i] <= radius)]
        away = np.linalg.norm(_features_of(index, candidates) - features, axis=1)
        order = np.argsort(away, kind="stable")[:top]
        found[i, : len(order)], euclidean[i, : len(order)] = candidates[order], away[order]
    return found, euclidean


def label_of(index: Index, name: str, variable: str) -> int:
    """Return the number of a class; raise Failure, naming make's variable, for an unknown name."""
    if name not in index.class_names:
        raise Failure(f"{variable}={name} is not known; there are {', '.join(index.class_names)}")
    return index.class_names.index(name)


def labels_of(index: Index, text: str, variable: str) -> int | list[int]:
    """Return a class's number, -1 for "", or, of several labels, their row of 0 and 1.

    text: a class's name, or of several labels names separated by commas. Raise Failure, naming
    make's variable, for an unknown name.
    """
    if not index.several:
        return label_of(index, text, variable) if text else -1
    names = [name.strip() for name in text.split(",") if name.strip()]
    carried = {label_of(index, name, variable) for name in names}
    return [int(label in carried) for label in range(index.labels.shape[1])]


def picture_of(index: Index, row: int, read: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return the picture of a row, uint8 C x H x W, BGR.

    read: gives those of the rows that codes.h5 has; the index itself holds those that were added.
    """
    return index.added_pictures[row - index.base] if row >= index.base else read(row)


def create(run: Path, kind: str = "") -> Index:
    """Open the index of a run's codes.h5, made first where there is none of this kind.

    kind: one of KINDS, or "" for what is there, else what suits the size. An index of the same
    codes keeps the pictures that were added and removed since; of other codes it loses them, and
    that is printed. Raise Failure for a codes.h5 of other weights, and where the index cannot be
    written.
    """
    codes = read_codes(run / "codes.h5")
    if codes.net_fingerprint != _fingerprint(run):
        raise Failure(f"{run / 'codes.h5'} holds codes of other weights: run 'make codes' again")
    origin = {
        "net_fingerprint": codes.net_fingerprint,
        "codes_sha256": codes_sha256(codes),
    }
    path, lost = run / "index.h5", ""
    with only_one(run), ExitStack() as stack:
        tables, attributes = read_tables(path) if path.exists() else ({}, {})
        if origin.items() <= attributes.items():
            if (run / attributes["faiss"]).exists() and kind in ("", attributes["kind"]):
                with suppress(OSError):  # of somebody else: make asks again the next time
                    tidy(run)
                    os.utime(path)  # make's sign that it is as new as codes.h5
                return open_index(run)
        else:
            lost = _changes(tables) if tables else ""
            again = "extract the codes again"
            file = stack.enter_context(open_hdf5(run / "codes.h5", again))
            tables = {
                "codes": codes.database.codes,
                "labels": codes.database.labels,
                "keys": codes.database.keys,
                "probabilities": file.get(
                    "database/probabilities", np.empty((len(codes.database.codes), 0), np.float32)
                ),
                "removed": np.zeros(len(codes.database.codes), bool),
                "added_features": np.empty((0, 0), np.float32),
                "added_pictures": np.empty((0, 0, 0, 0), np.uint8),
            }
            names = np.array(codes.class_names, h5py.string_dtype())
            attributes = origin | {"bits": codes.bits, "class_names": names}
        attributes["kind"] = kind or ("flat" if len(tables["codes"]) <= FLAT_ROWS else "ivf")
        built = build(attributes["kind"], tables["codes"], codes.bits)
        write(run, {name: [table] for name, table in tables.items()}, attributes, built)
    if lost:
        print(
            f"{path} was of other codes, and its changes are not in the new one, {lost}: "
            "'make index' with ADD= and REMOVE= makes them again",
            flush=True,
        )
    return open_index(run)


def add(
    run: Path,
    keys: Sequence[str],
    *,
    label: int | list[int],
    codes: np.ndarray,
    probabilities: np.ndarray,
    features: np.ndarray,
    pictures: np.ndarray,
) -> int:
    """Add pictures to a run's index, without a rebuild; return how many took the place of others.

    keys: what names each picture; one that is there already is replaced. label: as `labels_of`
    returns it. codes: (n, bytes) uint8. probabilities: (n, C), C 0 without a classifier, features:
    (n, F) float32. pictures: uint8, n x C x H x W, BGR, as the net gets them.
    """
    with only_one(run):
        index, (tables, attributes) = open_index(run), read_tables(run / "index.h5")
        removed = index.removed.copy()
        names = np.array([key.encode() for key in keys])
        replaced = np.isin(index.keys, names) & ~removed
        removed[replaced] = True
        whole = read_faiss(run, attributes)
        whole.add(padded(codes, index.bits))
        more = {
            "codes": codes,
            "labels": np.array([label] * len(codes), index.labels.dtype),
            "keys": names,
            "probabilities": probabilities,
            "removed": np.zeros(len(codes), bool),
            "added_features": features,
            "added_pictures": pictures,
        }
        tables["removed"] = removed
        write(run, {name: [tables[name], more[name]] for name in tables}, attributes, whole)
    return int(np.count_nonzero(replaced))


def remove(run: Path, keys: Sequence[str]) -> int:
    """Take pictures out of a run's index by their keys; return how many rows that were.

    Raise Failure, and removes none, where a key is not there.
    """
    with only_one(run):
        index, (tables, attributes) = open_index(run), read_tables(run / "index.h5")
        names = np.array([os.fsencode(key) for key in keys])
        gone = np.isin(index.keys, names) & ~index.removed
        missing = set(names.tolist()) - set(index.keys[gone].tolist())
        if missing:
            name = sorted(missing)[0].decode(errors="replace")
            raise Failure(f"{run / 'index.h5'} has no picture {name}")
        tables["removed"] = index.removed | gone
        write(run, {name: [table] for name, table in tables.items()}, attributes)
    return int(np.count_nonzero(gone))


def _fill(
    rows: np.ndarray, distances: np.ndarray, unwanted: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first `top` columns without the unwanted, int64 and int32, filled up with -1."""
    order = np.argsort(unwanted, axis=1, kind="stable")[:, :top]
    take = [np.take_along_axis(array, order, axis=1) for array in (rows, distances, unwanted)]
    filled = [np.full((len(rows), top), -1, kind) for kind in (np.int64, np.int32)]
    for array, values in zip(filled, take, strict=False):
        array[:, : values.shape[1]] = np.where(take[2], -1, values)
    return tuple(filled)


def _features_of(index: Index, rows: np.ndarray) -> np.ndarray:
    base = index.base
    features = np.empty((len(rows), index.features.shape[1]), np.float32)
    features[rows < base] = index.features[rows[rows < base]]
    if len(index.added_features):
        features[rows >= base] = index.added_features[rows[rows >= base] - base]
    return features


def _changes(tables: dict[str, np.ndarray]) -> str:
    """Return how many pictures were added to an index and removed from it, for people; or ""."""
    removed, base = tables["removed"], len(tables["codes"]) - len(tables["added_features"])
    added, gone = np.count_nonzero(~removed[base:]), np.count_nonzero(removed[:base])
    pictures = f"{added:,} picture{'s' * (added != 1)}"
    return f"{pictures} added and {gone:,} removed" if added or gone else ""


def _fingerprint(run: Path) -> str:
    content, caffemodel = record.read_record(run), run / "model.caffemodel"
    if not caffemodel.exists():
        raise Failure(f"{caffemodel} does not exist: run 'make train'")
    return record.net_fingerprint(content, caffemodel)
