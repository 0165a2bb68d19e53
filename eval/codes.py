"""The codes file: one reader, with every check, and one writer.

An HDF5 file, `codes.h5` of a run or one from elsewhere:

    attributes        bits (K), bit_order ("big", as numpy.packbits), class_names, dataset, net,
                      net_fingerprint, row_order (a sentence)
    database, query   groups, one row a picture, each with
      codes           N x ceil(K/8) uint8, bit 0 the most significant bit of byte 0
      labels          N int32, or N x L uint8 of 0 and 1 where a picture has several labels
      latent          N x K float32, activations of the latent layer; a bit is latent > 0.5
      probabilities   N x C float32: of the classes, or, with several labels, of each label, N x L
      key             N fixed-length UTF-8 strings that lead back to the pictures
      row_order_sha256  attribute: SHA-256 of the keys joined by newlines

Only `bits` and each group's `codes` and `labels` are required.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from eval.files import InputError
from eval.hdf5 import create_hdf5, open_hdf5, text_of, texts_of

ROWS_PER_PIECE = 8192
MOST_CLASSES = 2**20  # above any real number of classes: a label beyond it is a mistake
MOST_LABELS = 2**16 - 1  # of a picture: shared ones are counted in 16 bits


@dataclass(frozen=True)
class Split:
    """Rows of one group, in the file's order.

    codes: (N, ceil(K/8)) uint8. labels: (N,) int32 or (N, L) uint8.
    keys: (N,) bytes, or None. predictions: (N,) int64, the most probable class, of pictures with
    one label, or None. probabilities: (N, L) float32, of queries with several labels, or None.
    """

    codes: np.ndarray
    labels: np.ndarray
    keys: np.ndarray | None
    predictions: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Codes:
    """What a codes file says, checked; `latent` stays on disk, as most probabilities do."""

    bits: int
    class_names: list[str]
    dataset: str | None
    net: str | None
    net_fingerprint: str | None
    row_order: str | None
    database: Split
    query: Split


def read_codes(path: str | Path) -> Codes:
    """Read and check a codes file, in pieces; memory holds packed codes, labels and keys.

    Raises InputError for a file that is missing, damaged or contradicts itself.
    """
    if not Path(path).exists():
        raise InputError(f"{path} does not exist; name a codes file")
    with open_hdf5(path, "extract the codes again") as file:
        return _read_file(file, path)


def codes_sha256(codes: Codes) -> str:
    """Return the SHA-256 (hex) of what metrics depend on: bits, codes, labels, classes, keys.

    With several labels the queries' probabilities are in the place of the classes.
    """
    digest = hashlib.sha256(str(codes.bits).encode())
    for split in (codes.database, codes.query):
        parts = (split.codes, split.labels, split.predictions, split.probabilities, split.keys)
        for array in parts:
            if array is not None:
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def row_order_sha256(keys: Sequence[bytes] | np.ndarray) -> str:
    """Return the SHA-256 (hex) of the keys joined by newlines."""
    return hashlib.sha256(b"\n".join(keys)).hexdigest()


@contextmanager
def create_codes(
    path: str | Path,
    *,
    bits: int,
    class_names: Sequence[str],
    dataset: str,
    net: str,
    net_fingerprint: str,
    row_order: str,
    labels: dict[str, np.ndarray],
    keys: dict[str, Sequence[str]],
    classifier: bool = True,
) -> Iterator[Callable[[str, int, np.ndarray, np.ndarray | None], None]]:
    """Create a codes file and yield `write(split, start, latent, probabilities)`.

    `labels` and `keys` hold the entries "database" and "query": (N,) integers or (N, L) 0/1, and
    N strings. Each `write` fills rows from `start` on with latent (n, bits) and probabilities
    (n, classes), both float32, in any order of pieces; codes are derived from latent. For a net
    without a classifier (`classifier` False) probabilities are None each time. The file gets its
    name when the block ends with every row written; otherwise nothing is left.
    Raises InputError where activations are not finite, ValueError where rows are missing, OSError
    where it cannot be written.
    """
    with create_hdf5(path) as file:
        file.attrs["bits"] = bits
        file.attrs["bit_order"] = "big"
        file.attrs["class_names"] = np.array(list(class_names), h5py.string_dtype())
        file.attrs["dataset"] = dataset
        file.attrs["net"] = net
        file.attrs["net_fingerprint"] = net_fingerprint
        file.attrs["row_order"] = row_order
        written = {}
        for name in ("database", "query"):
            _create_group(
                file.create_group(name),
                bits=bits,
                classes=len(class_names) if classifier else None,
                labels=labels[name],
                keys=keys[name],
            )
            written[name] = np.zeros(len(labels[name]), bool)

        def write(
            split: str, start: int, latent: np.ndarray, probabilities: np.ndarray | None
        ) -> None:
            rows = slice(start, start + len(latent))
            for kind, values in (("latent", latent), ("probabilities", probabilities)):
                if values is not None and not np.isfinite(values).all():
                    raise InputError(
                        f"{path}: {kind} of {split} rows {rows.start} to {rows.stop - 1} hold a "
                        "value that is not finite; check the weights and the mean image"
                    )
            file[split]["latent"][rows] = latent
            file[split]["codes"][rows] = pack_latent(latent)
            if classifier:
                file[split]["probabilities"][rows] = probabilities
            written[split][rows] = True
            file.check()

        yield write
        for name, rows in written.items():
            if not rows.all():
                raise ValueError(f"{path}: {np.count_nonzero(~rows)} {name} rows were not written")


def pack_latent(latent: np.ndarray) -> np.ndarray:
    """Return codes (N, ceil(K/8)) uint8 of activations (N, K).

    A bit is latent > 0.5, the releases' rule.
    """
    return np.packbits(latent > 0.5, axis=1)


def _create_group(
    group: h5py.Group, bits: int, classes: int | None, labels: np.ndarray, keys: Sequence[str]
) -> None:
    labels = np.asarray(labels)
    labels = labels.astype(np.int32 if labels.ndim == 1 else np.uint8)
    keys = [key.encode() for key in keys]
    rows = len(labels)
    if rows == 0 or len(keys) != rows:
        raise ValueError(f"the codes file's {group.name} has {rows} labels and {len(keys)} keys")
    group.create_dataset("latent", (rows, bits), np.float32)
    group.create_dataset("codes", (rows, -(-bits // 8)), np.uint8)
    if classes is not None:
        group.create_dataset("probabilities", (rows, classes), np.float32)
    group.create_dataset("labels", data=labels)
    # NumPy's bytes are stored without HDF5's UTF-8 mark, which Octave cannot read.
    group.create_dataset("key", data=np.array(keys, "S"))
    group.attrs["row_order_sha256"] = row_order_sha256(keys)


def _read_file(file: h5py.File, path: str | Path) -> Codes:
    bits = file.attrs.get("bits")
    if bits is None:
        raise InputError(f"{path} has no attribute 'bits'; state the code length there")
    if not np.issubdtype(np.asarray(bits).dtype, np.number) or np.ndim(bits):
        raise InputError(f"{path}: attribute 'bits' is {bits!r}, but must be a number; correct it")
    if not np.isfinite(bits) or bits != int(bits) or not 1 <= bits <= 65534:
        raise InputError(
            f"{path}: attribute 'bits' is {bits}, but must be from 1 to 65534; correct it"
        )
    bits = int(bits)
    bit_order = text_of(file.attrs.get("bit_order", "big"))
    if bit_order != "big":
        raise InputError(
            f"{path}: bit_order is {bit_order!r}, but must be 'big'; pack with numpy.packbits"
        )
    database, query = (_read_split(file, name, bits, path) for name in ("database", "query"))
    if database.labels.shape[1:] != query.labels.shape[1:]:
        raise InputError(
            f"{path}: labels are {_width(database.labels)} a row in 'database' and "
            f"{_width(query.labels)} in 'query'; give both the same"
        )
    return Codes(
        bits=bits,
        class_names=_class_names(file, database.labels, query.labels, path),
        dataset=text_of(file.attrs.get("dataset")),
        net=text_of(file.attrs.get("net")),
        net_fingerprint=text_of(file.attrs.get("net_fingerprint")),
        row_order=text_of(file.attrs.get("row_order")),
        database=database,
        query=query,
    )


def _read_split(file: h5py.File, name: str, bits: int, path: str | Path) -> Split:
    for required in (name, f"{name}/codes", f"{name}/labels"):
        if required not in file:
            raise InputError(f"{path} has no '{required}'; see eval/codes.py for the format")
    group = file[name]
    parts = [
        part for part in ("codes", "labels", "latent", "probabilities", "key") if part in group
    ]
    for part in parts:
        if not isinstance(group[part], h5py.Dataset) or group[part].ndim == 0:
            raise InputError(f"{path}: '{name}/{part}' is no rows; extract the codes again")
    codes = _read_codes_dataset(group, bits, path)
    for other in parts:
        if len(group[other]) != len(codes):
            raise InputError(
                f"{path}: '{name}' has {len(codes)} codes but {len(group[other])} rows of "
                f"'{other}'; extract the codes again"
            )
    labels = _read_labels(group, path)
    if "latent" in group:
        _check_latent(group, codes, bits, path)
    scores = {}
    if "probabilities" in group and labels.ndim == 1:
        scores["predictions"] = _read_predictions(group, path)
    elif "probabilities" in group:
        probabilities = _read_label_probabilities(group, labels.shape[1], path)
        if name == "query":
            scores["probabilities"] = probabilities
    keys = _read_keys(group, path) if "key" in group else None
    return Split(codes=codes, labels=labels, keys=keys, **scores)


def _read_codes_dataset(group: h5py.Group, bits: int, path: str | Path) -> np.ndarray:
    dataset = group["codes"]
    if dataset.dtype != np.uint8 or dataset.ndim != 2:
        raise InputError(
            f"{path}: '{dataset.name}' is {dataset.dtype} with {dataset.ndim} dimensions; "
            "packed codes are uint8, one row a picture"
        )
    if dataset.shape[0] == 0:
        raise InputError(f"{path}: '{group.name}' has no rows; extract that split again")
    if dataset.shape[1] != -(-bits // 8):
        raise InputError(
            f"{path}: '{dataset.name}' has {dataset.shape[1]} bytes a row, but {bits} bits "
            f"take {-(-bits // 8)}; correct 'bits' or pack the codes again"
        )
    codes = np.empty(dataset.shape, np.uint8)
    padding = (1 << (-bits % 8)) - 1
    for rows in _pieces(len(codes)):
        codes[rows] = dataset[rows]
        if np.any(codes[rows, -1] & padding):
            raise InputError(
                f"{path}: '{dataset.name}' has bits set beyond its {bits} bits; correct 'bits' "
                "or pack the codes again"
            )
    return codes


def _read_labels(group: h5py.Group, path: str | Path) -> np.ndarray:
    dataset = group["labels"]
    if dataset.dtype.kind not in "iub" or dataset.ndim not in (1, 2):
        raise InputError(
            f"{path}: '{dataset.name}' is {dataset.dtype} with {dataset.ndim} dimensions; labels "
            "are integers, one a row, or a row of 0 and 1"
        )
    if dataset.ndim == 2:
        return _read_label_rows(dataset, path)
    labels = dataset[:].astype(np.int64)
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(
            f"{path}: '{dataset.name}' holds {wrong}; labels number the classes, from 0 up and "
            f"below {MOST_CLASSES:,}"
        )
    return labels.astype(np.int32)


def _read_label_rows(dataset: h5py.Dataset, path: str | Path) -> np.ndarray:
    if not 1 <= dataset.shape[1] <= MOST_LABELS:
        raise InputError(
            f"{path}: '{dataset.name}' has {dataset.shape[1]} columns; give one for each label, "
            f"from 1 to {MOST_LABELS:,}"
        )
    labels = np.empty(dataset.shape, np.uint8)
    for rows in _pieces(len(labels)):
        piece = dataset[rows]
        if not np.isin(piece, (0, 1)).all():
            raise InputError(
                f"{path}: '{dataset.name}' holds values other than 0 and 1; correct it"
            )
        labels[rows] = piece
    return labels


def _check_latent(group: h5py.Group, codes: np.ndarray, bits: int, path: str | Path) -> None:
    dataset = group["latent"]
    if dataset.shape != (len(codes), bits) or dataset.dtype.kind != "f":
        raise InputError(
            f"{path}: '{dataset.name}' is {dataset.dtype} {dataset.shape}, but must be float32 "
            f"({len(codes)}, {bits}); extract the codes again"
        )
    for rows in _pieces(len(codes)):
        if not np.array_equal(pack_latent(_finite_rows(dataset, rows, path)), codes[rows]):
            raise InputError(
                f"{path}: '{group.name}/codes' is not latent > 0.5 among rows {rows.start} to "
                f"{rows.stop - 1}; extract the codes again"
            )


def _read_keys(group: h5py.Group, path: str | Path) -> np.ndarray:
    dataset = group["key"]
    if dataset.dtype.kind != "S":
        raise InputError(f"{path}: '{dataset.name}' must hold fixed-length strings; correct it")
    keys = dataset[:]
    stated = text_of(group.attrs.get("row_order_sha256"))
    if stated is not None and stated != row_order_sha256(keys):
        raise InputError(
            f"{path}: the keys of '{group.name}' do not have the stated row_order_sha256; rows "
            "were reordered or replaced, so extract the codes again"
        )
    return keys


def _read_predictions(group: h5py.Group, path: str | Path) -> np.ndarray:
    dataset = group["probabilities"]
    _check_probabilities(dataset, path)
    predictions = np.empty(len(dataset), np.int64)
    for rows in _pieces(len(dataset)):
        predictions[rows] = _finite_rows(dataset, rows, path).argmax(axis=1)
    return predictions


def _read_label_probabilities(group: h5py.Group, labels: int, path: str | Path) -> np.ndarray:
    """Return the probabilities of each label, (N, L) float32."""
    dataset = group["probabilities"]
    _check_probabilities(dataset, path)
    if dataset.shape[1] != labels:
        raise InputError(
            f"{path}: '{dataset.name}' has {dataset.shape[1]} columns, but labels have {labels}; "
            "extract the codes again"
        )
    probabilities = np.empty(dataset.shape, np.float32)
    for rows in _pieces(len(dataset)):
        probabilities[rows] = piece = _finite_rows(dataset, rows, path)
        if piece.min() < 0 or piece.max() > 1:
            raise InputError(
                f"{path}: '{dataset.name}' holds a value below 0 or above 1, which is no "
                f"probability of a label, among rows {rows.start} to {rows.stop - 1}; extract the "
                "codes again"
            )
    return probabilities


def _check_probabilities(dataset: h5py.Dataset, path: str | Path) -> None:
    if dataset.ndim != 2 or dataset.shape[1] == 0 or dataset.dtype.kind != "f":
        raise InputError(
            f"{path}: '{dataset.name}' is {dataset.dtype} {dataset.shape}, but must be float32, "
            "one column a class; extract the codes again"
        )


def _finite_rows(dataset: h5py.Dataset, rows: slice, path: str | Path) -> np.ndarray:
    """Return rows of a dataset; raise InputError where one holds a value that is not finite."""
    values = dataset[rows]
    if not np.isfinite(values).all():
        raise InputError(
            f"{path}: '{dataset.name}' holds a value that is not finite among rows {rows.start} "
            f"to {rows.stop - 1}; extract the codes again"
        )
    return values


def _class_names(
    file: h5py.File, database_labels: np.ndarray, query_labels: np.ndarray, path: str | Path
) -> list[str]:
    if database_labels.ndim == 2:
        classes = database_labels.shape[1]
    else:
        classes = int(max(database_labels.max(), query_labels.max())) + 1
    if "class_names" not in file.attrs:
        return [str(label) for label in range(classes)]
    names = texts_of(file.attrs["class_names"])
    if names is None:
        raise InputError(f"{path}: attribute 'class_names' is no list of texts; correct it")
    if len(names) < classes:
        raise InputError(
            f"{path}: labels need {classes} classes, but 'class_names' has {len(names)}; "
            "correct either"
        )
    return names


def _pieces(rows: int) -> Iterator[slice]:
    for start in range(0, rows, ROWS_PER_PIECE):
        yield slice(start, min(start + ROWS_PER_PIECE, rows))


def _width(labels: np.ndarray) -> str:
    return "one" if labels.ndim == 1 else f"{labels.shape[1]} of 0 and 1"
