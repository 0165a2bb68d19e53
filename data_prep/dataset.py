"""What every data set module returns, and the checks that hold for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_prep import DataError


@dataclass
class Split:
    """One split of N pictures in the data set's own order, the order that breaks ties in a ranking.

    keys: N strings, each leading back to its picture (``train/cat/1.jpg`` or ``train/00000017``).
    labels: (N,) int32, or (N, L) uint8 of 0 and 1 where a picture may have several.
    read: row -> the picture as a file's bytes or a uint8 array, H x W grey or H x W x 3 BGR;
        called from several threads.
    origin: the file or folder that holds the pictures, for messages.
    """

    keys: Sequence[str]
    labels: np.ndarray
    read: Callable[[int], bytes | np.ndarray]
    origin: Path | str


@dataclass
class Dataset:
    """The splits, the names of the classes by label, and what the manifest says of them.

    database: what is searched, where that is not the training pictures alone.
    sources: the files it comes from, each with ``file`` and ``sha256``.
    order: a phrase on what the data set's own order is. notes: sentences to be shown to the user.
    lists: the contents of text files to be kept beside the LMDBs, by the files' names.
    signature: digests by which a later call tells whether pictures in a folder are the same.
    contents: for those, count (of pictures of each split, as in subset, None for all) -> the
        sources with the pictures' contents, asked for once they have been read.
    """

    train: Split
    test: Split
    classes: Sequence[str]
    sources: list[dict]
    order: str
    notes: list[str] = field(default_factory=list)
    lists: dict[str, str] = field(default_factory=dict)
    signature: dict[str, str] = field(default_factory=dict)
    contents: Callable[[int | None], list[dict]] | None = None
    database: Split | None = None

    @property
    def splits(self) -> dict[str, Split]:
        """Return the splits by name: train, test, and database where it is one of its own."""
        splits = {"train": self.train, "test": self.test}
        return splits | ({"database": self.database} if self.database else {})

    @property
    def several(self) -> bool:
        """Tell whether a picture may have several labels."""
        return np.ndim(self.train.labels) == 2


def to_labels(path: Path, lines: Sequence[int], texts: Sequence[str], pictures: int) -> np.ndarray:
    """Return a list file's labels, decimal numbers, as (N,) int32.

    lines: the number of each label's line, for messages. pictures: the number of pictures in all
    lists. Raises DataError for a label that is not below it: that would leave classes empty, and
    counting so many could fill the memory.
    """
    labels = np.array([float(text) for text in texts])
    wild = np.flatnonzero(labels >= pictures)
    if len(wild):
        raise DataError(
            f"{path}, line {lines[wild[0]]}: the label {texts[wild[0]]} is too large for the "
            f"{pictures} pictures of the lists; number the labels from 0 without gaps"
        )
    return labels.astype(np.int32)


def label_numbers(labels: np.ndarray) -> list[str]:
    """Return each picture's label as text, of several their numbers between blanks.

    labels: (N,) int32, or (N, L) uint8 of 0 and 1.
    """
    if labels.ndim == 1:
        return [str(label) for label in labels.tolist()]
    return [" ".join(map(str, np.flatnonzero(row).tolist())) for row in labels]


def label_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return how many pictures each class has, (classes,) int64; labels as for label_numbers."""
    if labels.ndim == 1:
        return np.bincount(labels, minlength=classes)
    return labels.sum(axis=0, dtype=np.int64)


def check(dataset: Dataset, skip: bool = False) -> None:
    """Raise DataError for an empty split, a label out of range or a class without pictures.

    Of several labels: for a picture that has none, which skip allows, to be left out later.
    """
    for name, split in dataset.splits.items():
        if not len(split.keys):
            raise DataError(f"{split.origin}: the {name} split is empty; put its pictures there")
        labels = np.asarray(split.labels)
        if labels.ndim == 2:
            bare = np.flatnonzero(~labels.any(axis=1))
            if len(bare) and not skip:
                raise DataError(
                    f"{split.origin}: {split.keys[bare[0]]} has no label, as {len(bare)} of the "
                    f"{name} pictures; give it one, or leave such pictures out (SKIP=1)"
                )
        else:
            wrong = np.flatnonzero((labels < 0) | (labels >= len(dataset.classes)))
            if len(wrong):
                raise DataError(
                    f"{split.origin}: {split.keys[wrong[0]]} has label {labels[wrong[0]]}, outside "
                    f"0..{len(dataset.classes) - 1}; correct its label"
                )
        empty = np.flatnonzero(label_counts(labels, len(dataset.classes)) == 0)
        if len(empty):
            raise DataError(
                f"{split.origin}: class {empty[0]} ({dataset.classes[empty[0]]}) has no {name} "
                "pictures; add some, or remove the class and number the labels without gaps"
            )


def spaced_rows(size: int, count: int | None) -> np.ndarray:
    """Return min(count, size) evenly spaced rows of `size`, ascending int64; all without count."""
    kept = min(count or size, size)
    return np.arange(kept) * size // max(kept, 1)


def subset(split: Split, count: int) -> Split:
    """Return min(count, N) evenly spaced rows of the split, in its own order."""
    rows = spaced_rows(len(split.keys), count)
    return Split(
        keys=[split.keys[row] for row in rows],
        labels=np.asarray(split.labels)[rows],
        read=lambda index: split.read(rows[index]),
        origin=split.origin,
    )
