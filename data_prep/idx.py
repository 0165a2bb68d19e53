"""MNIST's idx files, plain or gzipped: found, verified by MD5 and read. Also Fashion-MNIST's."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.dataset import Dataset, Split

MOST_BYTES = 64 << 20  # uncompressed: the training pictures have 47 MB
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def find(folders: Iterable[Path], name: str) -> Path | None:
    """Return the first of ``name`` and ``name.gz`` that lies in one of the folders, or None."""
    candidates = [folder / file for folder in folders for file in (name, f"{name}.gz")]
    return next((path for path in candidates if path.is_file()), None)


def read(path: Path, md5: str) -> bytes:
    """Return an idx file's uncompressed bytes.

    md5: of these bytes. Raises DataError where the file is damaged or another one.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            data = file.read(MOST_BYTES)  # a file of another size fails the check below
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); delete it and run again") from None
    found = hashlib.md5(data).hexdigest()
    if found != md5:
        raise DataError(f"{path}: uncompressed MD5 is {found}, not {md5}; delete it and run again")
    return data


def parse(data: bytes) -> np.ndarray:
    """Return the uint8 array of an idx file's bytes, N x H x W or N."""
    dimensions = data[3]
    shape = np.frombuffer(data, ">i4", dimensions, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def load(folders: Sequence[Path], md5: dict[str, str], classes: Sequence[str]) -> Dataset:
    """Return the data set of the four idx files, all of which lie in the folders.

    The sources' SHA-256 is of the uncompressed files, the same whatever way they came.
    """
    splits, sources = {}, []
    for name, files in FILES.items():
        origin = find(folders, files[0])
        contents = [read(find(folders, file), md5[file]) for file in files]
        images, labels = map(parse, contents)
        splits[name] = Split(
            keys=[f"{name}/{row:08d}" for row in range(len(images))],
            labels=labels.astype(np.int32),
            read=images.__getitem__,
            origin=origin,
        )
        sources += [
            {"file": file, "sha256": hashlib.sha256(data).hexdigest()}
            for file, data in zip(files, contents, strict=True)
        ]
    return Dataset(classes=classes, sources=sources, order="the idx files' own order", **splits)
