"""One's own pictures: a folder a class below train/ and test/, or lists of ``path label`` lines.

Lists are ``train.txt`` and ``test.txt`` in the pictures' folder, their paths relative to it or
absolute, and ``database.txt`` where more is to be searched than what is trained on;
``classes.txt``, a name a line, is optional. Where there are lists they decide; lists.py reads them,
several labels a picture too.
"""

import hashlib
import mmap
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import DataError
from data_prep import lists as list_files
from data_prep.class_folders import ORDER, arrange, is_picture, refuse_shared, skipped_note
from data_prep.dataset import Dataset, Split, label_numbers, spaced_rows
from data_prep.files import read_regular, refuse_irregular, walk

SPLITS = ("train", "test")
OF_SIZES = "split, path, label and size of each picture"  # what older manifests have a digest of
OF_CONTENTS = f"{OF_SIZES}, and the SHA-256 of the content of each one kept"


@dataclass
class Listing:
    """What lies in a folder of pictures, without any of them opened; each dict is by split.

    There are the splits train and test, and database where that is one of its own.
    """

    root: Path  # the folder
    keys: dict[str, list[str]]  # relative to the folder or absolute, in the data set's own order
    labels: dict[str, np.ndarray]  # (N,) int32, or (N, L) uint8 of 0 and 1
    sizes: dict[str, np.ndarray]  # (N,) int64, bytes; -1 where there is no such file
    times: dict[str, np.ndarray]  # (N,) int64, ns: when each file was changed last; -1 likewise
    classes: list[str]
    order: str
    notes: list[str]

    @cached_property
    def sources(self) -> list[dict[str, str]]:
        """Return the one source by what costs no reading: each picture's path, label and size."""
        return self._source(OF_SIZES, dict.fromkeys(self.keys))

    @cached_property
    def signature(self) -> dict[str, str]:
        """Return digests of each picture's path, label and size, and of its time of change, too."""
        times = self._source("", {split: self.times[split].tolist() for split in self.keys})[0]
        return {"sizes_sha256": self.sources[0]["sha256"], "times_sha256": times["sha256"]}

    def contents(self, count: int | None, known: dict[str, np.ndarray] | None = None) -> list[dict]:
        """Return the one source by contents: those of `count` evenly spaced pictures a split.

        count: None for all. known: by split, (N, 32) uint8, SHA-256 of pictures that were read
        already, zeros elsewhere; the others are read now. One that cannot be read counts as such.
        """
        digests = {}
        for split in self.keys:
            of_split = np.zeros((len(self.keys[split]), 32), np.uint8)
            if known:
                of_split[:] = known[split]
            rows = spaced_rows(len(of_split), count)
            read = reader(self.root, self.keys[split], of_split)
            with ThreadPoolExecutor() as pool:
                list(pool.map(_try(read), rows[~of_split[rows].any(axis=1)].tolist()))
            kept = np.zeros(len(of_split), bool)
            kept[rows] = True
            digests[split] = [
                digest.tobytes().hex() if used and digest.any() else "-"
                for digest, used in zip(of_split, kept, strict=True)
            ]
        return self._source(OF_CONTENTS, digests)

    def _source(self, of: str, more: dict[str, Sequence | None]) -> list[dict[str, str]]:
        """Return the one source with a digest of path, label, size, and one more fact, if any."""
        digest = hashlib.sha256()
        for split in self.keys:
            facts = (label_numbers(self.labels[split]), self.sizes[split].tolist())
            if more[split] is not None:
                facts += (more[split],)
            for key, *rest in zip(self.keys[split], *facts, strict=True):
                digest.update(f"{split} {key} {' '.join(map(str, rest))}\n".encode())
        return [{"file": self.root.resolve().name, "sha256": digest.hexdigest(), "sha256_of": of}]


def listing(images: Path, skip: bool) -> Listing:
    """Return what the folder holds; DataError where it is laid out in neither way.

    skip: take a listed picture that is missing, to be left out later, instead of refusing it.
    """
    if not images.is_dir():
        raise DataError(f"{images}: there is no such folder of pictures; correct IMAGES")
    if (images / "train.txt").is_file() and (images / "test.txt").is_file():
        return from_lists(images, skip)
    if (images / "train").is_dir() and (images / "test").is_dir():
        return _from_class_folders(images, skip)
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
    known = {split: _shared_digests(len(keys)) for split, keys in listed.keys.items()}
    splits = {
        split: Split(
            keys=listed.keys[split],
            labels=listed.labels[split],
            read=reader(listed.root, listed.keys[split], known[split]),
            origin=listed.root,
        )
        for split in listed.keys
    }
    return Dataset(
        classes=listed.classes,
        sources=listed.sources,
        order=listed.order,
        notes=listed.notes,
        signature=listed.signature,
        contents=lambda count: listed.contents(count, known),
        **splits,
    )


def dataset_with_lists(listed: Listing) -> Dataset:
    """Return what dataset() does, with the splits as list files."""
    made = dataset(listed)
    made.lists = lists(listed)
    return made


def lists(listed: Listing) -> dict[str, str]:
    """Return the text of each split's list and of classes.txt, as DATASET=folder reads them."""
    texts = {
        f"{split}.txt": "".join(
            f"{key} {label}\n"
            for key, label in zip(keys, label_numbers(listed.labels[split]), strict=True)
        )
        for split, keys in listed.keys.items()
    }
    return texts | {"classes.txt": "".join(f"{name}\n" for name in listed.classes)}


def _shared_digests(count: int) -> np.ndarray:
    """Return (count, 32) uint8, zeros, into which the writer's forked processes write as well."""
    memory = mmap.mmap(-1, max(32 * count, 1))
    return np.frombuffer(memory, np.uint8, 32 * count).reshape(count, 32)


def reader(images: Path, keys: Sequence[str], digests: np.ndarray) -> Callable[[int], bytes]:
    """Return the function that reads a row's picture file.

    digests: (N, 32) uint8, where it leaves the SHA-256 of what it has read.
    """
    places = memoryview(digests.reshape(-1))

    def read(row: int) -> bytes:
        content = read_regular(os.path.join(images, keys[row]))
        places[32 * row : 32 * row + 32] = hashlib.sha256(content).digest()
        return content

    return read


def _try(read: Callable[[int], bytes]) -> Callable[[int], None]:
    """Return read without its result and its DataError."""

    def attempt(row: int) -> None:
        with suppress(DataError):
            read(row)

    return attempt


def _from_class_folders(images: Path, skip: bool) -> Listing:
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
    return listing_of(
        images,
        {split: keys for split, (keys, _) in arranged.items()},
        skip=skip,
        labels={split: labels for split, (_, labels) in arranged.items()},
        classes=classes,
        order=ORDER,
        notes=skipped_note(images, sorted(skipped)),
    )


def from_lists(images: Path, skip: bool) -> Listing:
    """Return what the list files say; skip is as for listing."""
    splits = (*SPLITS, *(["database"] if (images / "database.txt").is_file() else []))
    files = {split: images / f"{split}.txt" for split in splits}
    keys, labels, classes = list_files.read(images, files)
    notes = []
    in_order = labels["train"].ndim == 1 and (np.diff(labels["train"]) >= 0).all()
    if len(classes) > 1 and in_order:
        notes.append(
            f"{files['train']}: sorted by class, and its order breaks the ties of a ranking; "
            "shuffle its lines for a fair one"
        )
    return listing_of(
        images,
        keys,
        skip=skip,
        labels=labels,
        classes=classes,
        order="the list files' own order",
        notes=notes,
    )


def listing_of(root: Path, keys: dict[str, list[str]], *, skip: bool, **facts: Any) -> Listing:
    """Return a Listing of the pictures with these keys below root, each of which is looked at.

    skip: as for look_at. facts: the other fields.
    """
    seen = {split: look_at(root, of_split, skip) for split, of_split in keys.items()}
    sizes = {split: found for split, (found, _) in seen.items()}
    times = {split: found for split, (_, found) in seen.items()}
    return Listing(root=root, keys=keys, sizes=sizes, times=times, **facts)


def look_at(images: Path, keys: Sequence[str], skip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the files' sizes and times of change, each (N,) int64, without any of them opened.

    One that is missing, or no regular file of a picture's size, is a DataError; -1 where skip.
    """
    facts = np.full((2, len(keys)), -1, np.int64)
    for row, key in enumerate(keys):
        path = os.path.join(images, key)
        try:
            status = os.stat(path)
            refuse_irregular(status)
            facts[:, row] = status.st_size, status.st_mtime_ns
        except (OSError, DataError) as error:
            if skip:
                continue
            said = f": {error.strerror}" if isinstance(error, OSError) else f" {error}"
            raise DataError(
                f"{path}{said}; correct the list or the file, or leave such pictures out (SKIP=1)"
            ) from None
    return facts[0], facts[1]


def _check_shared(listed: Listing) -> None:
    """Raise DataError where a test picture lies in another split, too.

    Only files of a size that both splits have are read.
    """
    by_size = {split: defaultdict(dict) for split in SPLITS}  # dicts of keys, as ordered sets
    for split, keys in listed.keys.items():
        for key, size in zip(keys, listed.sizes[split], strict=True):
            by_size["test" if split == "test" else "train"][size][key] = None
    common = (by_size["train"].keys() & by_size["test"].keys()) - {-1}
    candidates = {
        split: [key for size in common for key in by_size[split][size]] for split in SPLITS
    }

    def digest(key: str) -> tuple[str, str]:
        try:
            return hashlib.sha256(read_regular(listed.root / key)).hexdigest(), key
        except DataError:  # the build refuses it, or leaves it out
            return f"none of {key}", key

    with ThreadPoolExecutor() as pool:
        refuse_shared(
            listed.root,
            pool.map(digest, candidates["train"]),
            pool.map(digest, candidates["test"]),
        )
