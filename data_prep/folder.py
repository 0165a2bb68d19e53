"""One's own pictures: a folder a class below train/ and test/, or lists of ``path label`` lines.

Lists are ``train.txt`` and ``test.txt`` in the pictures' folder, their paths relative to it or
absolute; ``classes.txt``, a name a line, is optional. Where there are lists they decide.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.class_folders import ORDER, arrange, is_picture, refuse_shared, skipped_note
from data_prep.dataset import Dataset, Split, to_labels
from data_prep.files import file_digest, walk

SPLITS = ("train", "test")


@dataclass
class Listing:
    """What lies in a folder of pictures, without any of them opened; each dict is by split."""

    root: Path  # the folder
    keys: dict[str, list[str]]  # relative to the folder or absolute, in the data set's own order
    labels: dict[str, np.ndarray]  # (N,) int32
    sizes: dict[str, np.ndarray]  # (N,) int64, bytes; -1 where there is no such file
    classes: list[str]
    order: str
    notes: list[str]

    @cached_property
    def sources(self) -> list[dict[str, str]]:
        """Return the manifest's one source: SHA-256 over every picture's path, label and size."""
        digest = hashlib.sha256()
        for split in SPLITS:
            rows = zip(self.keys[split], self.labels[split], self.sizes[split], strict=True)
            for key, label, size in rows:
                digest.update(f"{split} {key} {label} {size}\n".encode())
        return [
            {
                "file": self.root.resolve().name,
                "sha256": digest.hexdigest(),
                "sha256_of": "split, path, label and size of each picture",
            }
        ]


def listing(images: Path, skip: bool) -> Listing:
    """Return what the folder holds; DataError where it is laid out in neither way.

    skip: take a listed picture that is missing, to be left out later, instead of refusing it.
    """
    if not images.is_dir():
        raise DataError(f"{images}: there is no such folder of pictures; correct IMAGES")
    if (images / "train.txt").is_file() and (images / "test.txt").is_file():
        return from_lists(images, skip)
    if (images / "train").is_dir() and (images / "test").is_dir():
        return _from_class_folders(images)
    raise DataError(
        f"{images}: needs train/<class>/ and test/<class>/ folders, or train.txt and test.txt "
        "with `path label` lines"
    )


def require_lists(images: Path) -> None:
    """Raise DataError where a folder does not hold both list files."""
    missing = [f"{split}.txt" for split in SPLITS if not (images / f"{split}.txt").is_file()]
    if missing:
        raise DataError(f"{images}: there is no {missing[0]} with `path label` lines; put it there")


def load(listed: Listing) -> Dataset:
    """Return the data set; DataError where a picture lies in both splits."""
    _check_shared(listed)
    return dataset(listed)


def dataset(listed: Listing) -> Dataset:
    """Return the data set of a listing, without a look into its pictures."""
    splits = {
        split: Split(
            keys=listed.keys[split],
            labels=listed.labels[split],
            read=reader(listed.root, listed.keys[split]),
            origin=listed.root,
        )
        for split in SPLITS
    }
    return Dataset(
        classes=listed.classes,
        sources=listed.sources,
        order=listed.order,
        notes=listed.notes,
        **splits,
    )


def lists(listed: Listing) -> dict[str, str]:
    """Return the text of train.txt, test.txt and classes.txt, as DATASET=folder reads them."""
    texts = {
        f"{split}.txt": "".join(
            f"{key} {label}\n"
            for key, label in zip(listed.keys[split], listed.labels[split], strict=True)
        )
        for split in SPLITS
    }
    return texts | {"classes.txt": "".join(f"{name}\n" for name in listed.classes)}


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
        for path in walk(images / split):
            relative = path.relative_to(images).as_posix()
            if is_picture(relative) and relative.split("/")[1] in classes:
                pictures.append(relative)
            else:
                skipped.append(relative)
    arranged = {split: arrange(pictures, split, classes) for split in SPLITS}
    return Listing(
        root=images,
        keys={split: keys for split, (keys, _) in arranged.items()},
        labels={split: labels for split, (_, labels) in arranged.items()},
        sizes={split: file_sizes(images, keys, False) for split, (keys, _) in arranged.items()},
        classes=classes,
        order=ORDER,
        notes=skipped_note(images, sorted(skipped)),
    )


def from_lists(images: Path, skip: bool) -> Listing:
    """Return what train.txt and test.txt say; skip is as for listing."""
    files = {split: images / f"{split}.txt" for split in SPLITS}
    listed = {split: _read_list(file) for split, file in files.items()}
    keys = {split: list(lines) for split, (lines, _) in listed.items()}
    pictures = sum(map(len, keys.values()))
    labels = {
        split: to_labels(files[split], list(lines.values()), texts, pictures)
        for split, (lines, texts) in listed.items()
    }
    names = images / "classes.txt"
    if names.is_file():
        classes = [line.strip() for line in _lines(names) if line.strip()]
    else:
        count = max(1 + max(labels[split], default=-1) for split in SPLITS)
        classes = [str(label) for label in range(count)]
    notes = []
    if len(classes) > 1 and (np.diff(labels["train"]) >= 0).all():
        notes.append(
            f"{files['train']}: sorted by class, and its order breaks the ties of a ranking; "
            "shuffle its lines for a fair one"
        )
    return Listing(
        root=images,
        keys=keys,
        labels=labels,
        sizes={split: file_sizes(images, keys[split], skip) for split in SPLITS},
        classes=classes,
        order="the list files' own order",
        notes=notes,
    )


def file_sizes(images: Path, keys: Sequence[str], skip: bool) -> np.ndarray:
    """Return the files' sizes, (N,) int64, -1 for one that is missing; DataError unless skip."""

    def size(key: str) -> int:
        try:
            return os.stat(os.path.join(images, key)).st_size
        except OSError as error:
            if skip:
                return -1
            raise DataError(
                f"{error.filename}: {error.strerror}; correct the list or the file, or leave such "
                "pictures out (SKIP=1)"
            ) from None

    return np.fromiter(map(size, keys), np.int64, len(keys))


def _read_list(path: Path) -> tuple[dict[str, int], list[str]]:
    """Return a list file's paths, each with its line's number, and their labels as they stand.

    A path may hold spaces, as in convert_imageset. Raises DataError for one that is listed twice.
    """
    lines, labels = {}, []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        key, _, label = line.rstrip().rpartition(" ")
        if not key or not label.isdecimal():
            raise DataError(
                f"{path}, line {number}: {line!r} is not `path label` with a label from 0 up; "
                "correct the line"
            )
        if key in lines:
            raise DataError(
                f"{path}, lines {lines[key]} and {number}: both list {key}; remove one of them"
            )
        lines[key] = number
        labels.append(label)
    return lines, labels


def _lines(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None


def _check_shared(listed: Listing) -> None:
    """Raise DataError where a picture lies in both splits.

    Only files of a size that both splits have are read.
    """
    by_size = {split: defaultdict(list) for split in SPLITS}
    for split in SPLITS:
        for key, size in zip(listed.keys[split], listed.sizes[split], strict=True):
            by_size[split][size].append(key)
    common = (by_size["train"].keys() & by_size["test"].keys()) - {-1}
    candidates = {
        split: [key for size in common for key in by_size[split][size]] for split in SPLITS
    }

    def digest(key: str) -> tuple[str, str]:
        return file_digest(listed.root / key, "sha256"), key

    with ThreadPoolExecutor() as pool:
        refuse_shared(
            listed.root,
            pool.map(digest, candidates["train"]),
            pool.map(digest, candidates["test"]),
        )
