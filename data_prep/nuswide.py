"""NUS-WIDE (Chua et al., CIVR 2009): 269,648 pictures from Flickr and 81 concepts, as distributed.

``IMAGES`` is the folder that its owner's archives unpack into: ``ImageList/Imagelist.txt`` with a
picture a line (``actor\\0001_2124494179.jpg``), ``Groundtruth/AllLabels/Labels_<concept>.txt``
with a 0 or 1 a line for each of them, and the pictures in ``Flickr/``. (``TrainTestLabels/`` has
the same labels once more.) Here are the 21 most frequent concepts, as most papers on hashing take
them; nuswide81.py has all.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep import DataError
from data_prep.dataset import Dataset
from data_prep.folder import Listing, dataset_with_lists, listing_of

PICTURES, CONCEPTS = 269_648, 81
SEED = 0
_LINE = rb"[01][ \t]*\r?"
_COLUMN = re.compile(rb"(?:%b\n)*(?:%b)?" % (_LINE, _LINE))


class Protocol(NamedTuple):
    """Which concepts, the most frequent ones, and how many pictures are drawn for what.

    of_each: so many queries and training pictures of each concept, the others of any.
    """

    concepts: int
    queries: int
    training: int
    of_each: tuple[int, int]


USUAL = Protocol(concepts=21, queries=2_100, training=10_500, of_each=(100, 500))


def listing(images: Path, skip: bool) -> Listing:
    """Return the splits of the 21 concepts; DataError where the folder is not NUS-WIDE's."""
    return listing_by(images, skip, USUAL)


def load(listed: Listing) -> Dataset:
    """Return the data set, with its splits as list files."""
    return dataset_with_lists(listed)


def listing_by(images: Path, skip: bool, protocol: Protocol) -> Listing:
    """Return queries, training pictures and database, by a protocol.

    Pictures of none of its concepts are left out. Queries and training pictures are drawn by
    numpy.random.RandomState(SEED), the database is all but the queries, and all stand in the order
    of Imagelist.txt. Raises DataError, naming the file, for what is missing or wrong.
    """
    paths = read_paths(images / "ImageList" / "Imagelist.txt")
    names, labels = read_labels(images / "Groundtruth" / "AllLabels", len(paths))
    often = np.argsort(-labels.sum(axis=0, dtype=np.int64), kind="stable")[: protocol.concepts]
    often.sort()
    labels = np.ascontiguousarray(labels[:, often])
    random, free = np.random.RandomState(SEED), labels.any(axis=1)
    labelled = np.flatnonzero(free)
    rows = {"test": draw(labels, free, protocol.queries, protocol.of_each[0], random)}
    rows["database"] = np.flatnonzero(free)
    rows["train"] = draw(labels, free, protocol.training, protocol.of_each[1], random)
    below = next((each for each in ("Flickr", "images") if (images / each).is_dir()), None)
    if below is None:
        raise DataError(f"{images}: there is no folder Flickr with the pictures; put it there")
    keys = {
        split: [f"{below}/{paths[row]}" for row in rows[split]]
        for split in ("train", "test", "database")
    }
    return listing_of(
        images,
        keys,
        skip=skip,
        labels={split: labels[rows[split]] for split in keys},
        classes=[names[column] for column in often],
        order="that of Imagelist.txt",
        notes=[
            f"{len(paths) - len(labelled):,} of {len(paths):,} pictures have none of the "
            f"{protocol.concepts} concepts and are left out",
            f"{protocol.queries:,} queries, {protocol.of_each[0]} of each concept at least, and "
            f"{protocol.training:,} training pictures, {protocol.of_each[1]} of each at least, are "
            f"drawn by numpy.random.RandomState({SEED}), of a rare concept half of what is left; "
            "the database is all but the queries",
            "the splits' contents were not compared with each other",
        ],
    )


def draw(
    labels: np.ndarray, free: np.ndarray, count: int, of_each: int, random: np.random.RandomState
) -> np.ndarray:
    """Return `count` rows that are drawn without replacement, ascending (count,) int64.

    labels: (N, L) uint8. free: (N,) bool, the rows that may be drawn; those that are become False.
    of_each: rows that are drawn of each label first, in the labels' order; half of those that are
    free where there are fewer than twice as many.
    """
    taken = np.zeros(len(labels), bool)
    for column in labels.T:
        rows = np.flatnonzero(free & (column > 0))
        chosen = random.permutation(rows)[: min(of_each, len(rows) // 2)]
        taken[chosen], free[chosen] = True, False
    rest = random.permutation(np.flatnonzero(free))[: count - np.count_nonzero(taken)]
    taken[rest], free[rest] = True, False
    return np.flatnonzero(taken)


def read_paths(path: Path) -> list[str]:
    """Return the pictures' paths of Imagelist.txt, with slashes; DataError where it is another."""
    lines = _read(path).decode("utf-8", "replace").splitlines()
    paths = [line.strip().replace("\\", "/") for line in lines]
    if len(paths) != PICTURES:
        raise DataError(
            f"{path}: lists {len(paths):,} pictures, where NUS-WIDE has {PICTURES:,}; take the "
            "owner's file, or give a part as DATASET=folder with lists of your own"
        )
    lines = {}
    for number, picture in enumerate(paths, start=1):
        if not picture or not picture.isprintable():
            raise DataError(f"{path}, line {number}: {picture!r} is no path; correct the line")
        if picture in lines:
            raise DataError(f"{path}, lines {lines[picture]} and {number}: both list {picture}")
        lines[picture] = number
    return paths


def read_labels(folder: Path, pictures: int) -> tuple[list[str], np.ndarray]:
    """Return the concepts, in the order of their names, and the labels, (N, 81) uint8 of 0 and 1.

    folder: AllLabels. pictures: N, of Imagelist.txt.
    """
    files = {
        path.stem.removeprefix("Labels_"): path for path in sorted(folder.glob("Labels_*.txt"))
    }
    if len(files) != CONCEPTS:
        raise DataError(
            f"{folder}: has {len(files)} files Labels_<concept>.txt, where NUS-WIDE has "
            f"{CONCEPTS}; unpack its Groundtruth archive there"
        )
    labels = np.empty((pictures, CONCEPTS), np.uint8)
    for column, path in enumerate(files.values()):
        data = _read(path)
        if not _COLUMN.fullmatch(data):
            number, line = next(
                (number, line)
                for number, line in enumerate(data.split(b"\n"), start=1)
                if not re.fullmatch(_LINE, line)
            )
            raise DataError(
                f"{path}, line {number}: {line.decode('utf-8', 'replace')!r} is neither 0 nor 1; "
                "take the owner's file"
            )
        found = np.frombuffer(data.translate(None, b" \t\r\n"), np.uint8) - ord("0")
        if len(found) != pictures:
            raise DataError(
                f"{path}: has {len(found):,} lines for the {pictures:,} pictures of Imagelist.txt; "
                "take the owner's file"
            )
        labels[:, column] = found
    return list(files), labels


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file; IMAGES is the folder that NUS-WIDE's archives unpack "
            "into, with ImageList, Groundtruth and Flickr"
        )
    return path.read_bytes()
