"""One's own pictures: a folder a class below train/ and test/, or lists of ``path label`` lines.

Lists are ``train.txt`` and ``test.txt`` in the pictures' folder, their paths relative to it or
absolute; ``classes.txt``, a name a line, is optional. Where there are lists they decide.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.class_folders import ORDER, arrange, is_picture, refuse_shared, skipped_note
from data_prep.dataset import Dataset, Split
from data_prep.files import file_digest

SPLITS = ("train", "test")


@dataclass
class Listing:
    """What lies in a folder of pictures, without any of them opened; each dict is by split."""

    keys: dict[str, list[str]]  # relative to the folder or absolute, in the data set's own order
    labels: dict[str, np.ndarray]  # (N,) int32
    sizes: dict[str, list[int]]  # bytes
    classes: list[str]
    order: str
    notes: list[str]


def name(images: Path) -> str:
    """Return the data set's name, ``folder-<the folder's own name>``."""
    return f"folder-{images.resolve().name}"


def listing(images: Path) -> Listing:
    """Return what the folder holds; DataError where it is laid out in neither way."""
    if not images.is_dir():
        raise DataError(f"{images}: there is no such folder of pictures; correct IMAGES")
    if (images / "train.txt").is_file() and (images / "test.txt").is_file():
        return _from_lists(images)
    if (images / "train").is_dir() and (images / "test").is_dir():
        return _from_class_folders(images)
    raise DataError(
        f"{images}: needs train/<class>/ and test/<class>/ folders, or train.txt and test.txt "
        "with `path label` lines"
    )


def source(images: Path, listed: Listing) -> dict:
    """Return the manifest's source entry: SHA-256 over every picture's path, label and size."""
    digest = hashlib.sha256()
    for split in SPLITS:
        rows = zip(listed.keys[split], listed.labels[split], listed.sizes[split], strict=True)
        for key, label, size in rows:
            digest.update(f"{split} {key} {label} {size}\n".encode())
    return {
        "file": images.resolve().name,
        "sha256": digest.hexdigest(),
        "sha256_of": "split, path, label and size of each picture",
    }


def load(images: Path, listed: Listing) -> Dataset:
    """Return the data set; DataError where a picture lies in both splits."""
    _check_shared(images, listed)
    splits = {
        split: Split(
            keys=listed.keys[split],
            labels=listed.labels[split],
            read=reader(images, listed.keys[split]),
            origin=images,
        )
        for split in SPLITS
    }
    return Dataset(
        classes=listed.classes,
        sources=[source(images, listed)],
        order=listed.order,
        notes=listed.notes,
        **splits,
    )


def reader(images: Path, keys: Sequence[str]) -> Callable[[int], bytes]:
    """Return the function that reads a row's picture file."""

    def read(row: int) -> bytes:
        try:
            with open(os.path.join(images, keys[row]), "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from None

    return read


def _from_class_folders(images: Path) -> Listing:
    classes = {
        path.name for split in SPLITS for path in (images / split).iterdir() if path.is_dir()
    }
    classes = sorted(each for each in classes if not each.startswith("."))
    pictures, skipped = [], []
    for split in SPLITS:
        for path in (images / split).rglob("*"):
            relative = path.relative_to(images).as_posix()
            if path.is_dir():
                continue
            if is_picture(relative) and relative.split("/")[1] in classes:
                pictures.append(relative)
            else:
                skipped.append(relative)
    arranged = {split: arrange(pictures, split, classes) for split in SPLITS}
    return Listing(
        keys={split: keys for split, (keys, _) in arranged.items()},
        labels={split: labels for split, (_, labels) in arranged.items()},
        sizes={split: _sizes(images, keys) for split, (keys, _) in arranged.items()},
        classes=classes,
        order=ORDER,
        notes=skipped_note(images, sorted(skipped)),
    )


def _from_lists(images: Path) -> Listing:
    keys, labels = {}, {}
    for split in SPLITS:
        keys[split], labels[split] = _read_list(images / f"{split}.txt")
    names = images / "classes.txt"
    if names.is_file():
        classes = [line.strip() for line in _lines(names) if line.strip()]
    else:
        count = max(1 + max(labels[split], default=-1) for split in SPLITS)
        classes = [str(label) for label in range(count)]
    notes = []
    if len(classes) > 1 and (np.diff(labels["train"]) >= 0).all():
        notes.append(
            f"{images / 'train.txt'}: sorted by class, and its order breaks the ties of a ranking; "
            "shuffle its lines for a fair one"
        )
    return Listing(
        keys=keys,
        labels=labels,
        sizes={split: _sizes(images, keys[split]) for split in SPLITS},
        classes=classes,
        order="the list files' own order",
        notes=notes,
    )


def _sizes(images: Path, keys: Sequence[str]) -> list[int]:
    """Return the files' sizes; DataError names one that is missing."""
    try:
        return [os.stat(os.path.join(images, key)).st_size for key in keys]
    except OSError as error:
        raise DataError(
            f"{error.filename}: {error.strerror}; correct the list or the file"
        ) from None


def _read_list(path: Path) -> tuple[list[str], np.ndarray]:
    """Return a list file's paths and labels; a path may hold spaces, as convert_imageset has it."""
    keys, labels = [], []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        key, _, label = line.rstrip().rpartition(" ")
        if not key or not label.isdecimal():
            raise DataError(
                f"{path}, line {number}: {line!r} is not `path label` with a label from 0 up; "
                "correct the line"
            )
        keys.append(key)
        labels.append(int(label))
    return keys, np.array(labels, np.int32)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None


def _check_shared(images: Path, listed: Listing) -> None:
    """Stop where a picture lies in both splits; only files of a size that both have are read."""
    by_size = {split: defaultdict(list) for split in SPLITS}
    for split in SPLITS:
        for key, size in zip(listed.keys[split], listed.sizes[split], strict=True):
            by_size[split][size].append(key)
    common = by_size["train"].keys() & by_size["test"].keys()
    candidates = {
        split: [key for size in common for key in by_size[split][size]] for split in SPLITS
    }

    def digest(key: str) -> tuple[str, str]:
        return file_digest(images / key, "sha256"), key

    with ThreadPoolExecutor() as pool:
        refuse_shared(
            images, pool.map(digest, candidates["train"]), pool.map(digest, candidates["test"])
        )
