"""Pictures as a data set has them, before anything is resized.

A data set by name, or the lists of a release: ``train-file-list.txt`` and ``test-file-list.txt``
with a path a line, ``train-label.txt`` and ``test-label.txt`` with a label a line.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.dataset import Dataset, Split, check, to_labels
from data_prep.datasets import Source, entry_of, module_of
from data_prep.files import file_source, read_regular


def load(name: str, raw: Path, archive: Path | None, lists: Path | None) -> Dataset:
    """Return a data set's pictures in the order that breaks the ties of a ranking, checked.

    raw, archive: its Source. lists: the folder of a release's lists, which then are the data set.
    Raises DataError for a file that is missing or damaged, and where pictures that lie in a folder
    are asked for without lists.
    """
    if lists:
        dataset = from_lists(lists)
    elif entry_of(name).pictures:
        raise DataError(f"{name}: its pictures are read through lists only; give LIST=")
    else:
        dataset = module_of(name).load(Source(raw, archive))
    check(dataset)
    return dataset


def from_lists(folder: Path) -> Dataset:
    """Return the data set of a release's four list files, in their own order.

    A path is looked for as it is, else below the lists' folder or a folder above it: the
    releases' paths start at their own root (``/data/cifar10/test/1.jpg``).
    """
    names, splits, sources = ("train", "test"), {}, []
    listed = {name: _lines(folder / f"{name}-file-list.txt") for name in names}
    pictures = sum(map(len, listed.values()))
    for name, keys in listed.items():
        paths, labels = folder / f"{name}-file-list.txt", folder / f"{name}-label.txt"
        splits[name] = Split(
            keys=keys,
            labels=_labels(labels, paths, len(keys), pictures),
            read=_reader(paths, keys),
            origin=paths,
        )
        sources += [
            file_source(paths),
            file_source(labels),
            {"file": f"pictures of {paths.name}", "sha256": _pictures_sha256(splits[name])},
        ]
    count = 1 + max(int(split.labels.max()) for split in splits.values())
    return Dataset(
        classes=[str(label) for label in range(count)],
        sources=sources,
        order="the release's list files' own order",
        **splits,
    )


def _pictures_sha256(split: Split) -> str:
    """Return the SHA-256 of all pictures' contents in turn; DataError names a missing picture."""
    digest = hashlib.sha256()
    for row, key in enumerate(split.keys):
        try:
            digest.update(split.read(row))
        except DataError as error:
            raise DataError(f"{split.origin}: {key} {error}") from None
    return digest.hexdigest()


def _lines(path: Path) -> list[str]:
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: no regular file; give the release's list")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is no such list; LIST is the folder with train-file-list.txt, "
            "train-label.txt, test-file-list.txt and test-label.txt"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{path}: this list is empty; give the release's")
    return lines


def _labels(path: Path, paths: Path, count: int, pictures: int) -> np.ndarray:
    lines = _lines(path)
    for number, line in enumerate(lines, start=1):
        if not line.isdecimal():
            raise DataError(f"{path}, line {number}: {line!r} is not a label from 0 up; correct it")
    if len(lines) != count:
        raise DataError(f"{path} has {len(lines)} labels for the {count} paths of {paths}")
    return to_labels(path, range(1, count + 1), lines, pictures)


def _reader(lists: Path, keys: list[str]) -> Callable[[int], bytes]:
    roots = [Path("/"), *lists.resolve().parents]
    first = keys[0].removeprefix("./").lstrip("/")
    root = next((root for root in roots if (root / first).is_file()), None)
    if root is None:
        raise DataError(
            f"{lists}, line 1: {keys[0]} is neither there as it is nor below {lists.parent} or a "
            "folder above it; put the pictures there"
        )

    def read(row: int) -> bytes:
        path = root / keys[row].removeprefix("./").lstrip("/")
        try:
            return read_regular(path)
        except DataError as error:
            raise DataError(f"{error} ({path})") from None

    return read
