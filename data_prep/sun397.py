"""SUN397 (Xiao et al., CVPR 2010): 108,754 pictures of 397 scene classes, from its folder tree.

``SUN397.tar.gz`` unpacks to ``SUN397/a/abbey/sun_*.jpg``, and to folders one deeper where a class
has kinds, ``SUN397/a/apartment_building/outdoor/sun_*.jpg``. The paper's split of 100,754 training
and 8,000 test pictures was not published; ours is of the same sizes, and its lists are kept.
"""

from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.class_folders import ORDER, is_picture, mixed
from data_prep.dataset import Dataset
from data_prep.files import walk_whole
from data_prep.folder import Listing, dataset_with_lists, listing_of

CLASSES, PICTURES = 397, 108_754
TEST_OF_CLASS, LARGEST = 20, 60  # 397 x 20 and one more from each of the 60 largest: 8,000
SPLIT_SEED = 0
SPLIT = (
    f"test: {TEST_OF_CLASS} of each class, and one more from each of the {LARGEST} largest, drawn "
    f"by numpy.random.RandomState({SPLIT_SEED}) from its sorted paths; the paper's own split "
    "was not published"
)


def listing(images: Path, skip: bool) -> Listing:
    """Return both splits of the tree; DataError where it is not the whole of SUN397.

    images: the folder SUN397 or the one that holds it. A class's name is its folder's path without
    the letter: ``abbey``, ``apartment_building/outdoor``.
    """
    root = images / "SUN397" if (images / "SUN397").is_dir() else images
    if not root.is_dir():
        raise DataError(f"{images}: there is no such folder; correct IMAGES")
    pictures = pictures_by_class(root)
    total = sum(map(len, pictures.values()))
    if (len(pictures), total) != (CLASSES, PICTURES):
        raise DataError(
            f"{root}: holds {total:,} pictures of {len(pictures)} classes, where SUN397 has "
            f"{PICTURES:,} of {CLASSES}; unpack the whole SUN397.tar.gz (SUBSET=N makes a small "
            "data set of it), or give a part as DATASET=folder with lists of your own"
        )
    train, test = split(pictures)
    label_of = {path: row for row, paths in enumerate(pictures.values()) for path in paths}
    keys = {"train": mixed(train), "test": mixed(test)}
    return listing_of(
        root,
        keys,
        skip=skip,
        labels={
            name: np.array([label_of[path] for path in paths], np.int32)
            for name, paths in keys.items()
        },
        classes=[folder.partition("/")[2] for folder in pictures],
        order=ORDER,
        notes=[SPLIT, "the splits' contents were not compared with each other"],
    )


def load(listed: Listing) -> Dataset:
    """Return the data set, with its split as list files."""
    return dataset_with_lists(listed)


def pictures_by_class(root: Path) -> dict[str, list[str]]:
    """Return the sorted paths, relative to root, of each class folder that holds pictures.

    Folders (``a/abbey``) come in sorted order, which is that of their labels.
    """
    found = {}
    for letter in root.iterdir():
        if len(letter.name) != 1:
            continue
        for place, _, names in walk_whole(letter):
            paths = [f"{Path(place).relative_to(root).as_posix()}/{name}" for name in names]
            paths = sorted(filter(is_picture, paths))
            if paths:
                found[paths[0].rpartition("/")[0]] = paths
    return dict(sorted(found.items()))


def split(pictures: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Return the paths of training and test pictures; pictures as pictures_by_class gives them.

    Classes of one size are larger in the order of their names.
    """
    largest = sorted(pictures, key=lambda name: (-len(pictures[name]), name))[:LARGEST]
    random = np.random.RandomState(SPLIT_SEED)
    train, test = [], []
    for name, paths in pictures.items():
        drawn = random.permutation(len(paths))[: TEST_OF_CLASS + (name in largest)]
        in_test = np.isin(np.arange(len(paths)), drawn)
        for path, chosen in zip(paths, in_test, strict=True):
            (test if chosen else train).append(path)
    return train, test
