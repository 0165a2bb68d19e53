"""Pictures laid out as ``train/<class>/`` and ``test/<class>/``, in a folder or an archive."""

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np

from data_prep import DataError

ORDER_SEED = 0
ORDER = f"each split's sorted paths under numpy.random.RandomState({ORDER_SEED}).permutation"
PICTURE_SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
}  # fmt: skip


def is_picture(path: str) -> bool:
    """Tell a picture from ``README``, ``Thumbs.db`` or ``.DS_Store`` by its name."""
    name = PurePosixPath(path).name
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def skipped_note(origin: object, skipped: list[str]) -> list[str]:
    """Return a list with the sentence that says which files were left out; empty where none was."""
    if not skipped:
        return []
    shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
    return [f"{origin}: left out {len(skipped)} files that are not pictures: {shown}"]


def arrange(paths: Iterable[str], split: str, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Return a split's keys, in the order that ORDER states, and their labels, (N,) int32.

    The classes are mixed, since the order breaks the ties of a ranking. paths: those of all splits,
    ``train/cat/1.jpg``. classes: names in the order of their labels.
    """
    keys = mixed(path for path in paths if path.split("/")[0] == split)
    label_of = {name: label for label, name in enumerate(classes)}
    return keys, np.array([label_of[key.split("/")[1]] for key in keys], np.int32)


def mixed(paths: Iterable[str]) -> list[str]:
    """Return paths in the order that ORDER states; DataError for one that is not printable."""
    ordered = sorted(paths)
    for path in ordered:
        if not path.isprintable():  # neither a line break nor bytes that are not UTF-8
            raise DataError(f"the file name {path!r} is not printable UTF-8 text; rename it")
    rows = np.random.RandomState(ORDER_SEED).permutation(len(ordered))
    return [ordered[row] for row in rows]


def refuse_shared(
    origin: object, train: Iterable[tuple[str, str]], test: Iterable[tuple[str, str]]
) -> None:
    """Raise DataError where a training and a test picture have the same content.

    train, test: (checksum of the content, key) of each picture.
    """
    key_of = dict(train)
    shared = [(key_of[checksum], key) for checksum, key in test if checksum in key_of]
    if shared:
        raise DataError(
            f"{origin}: {len(shared)} test pictures are training pictures too, such as "
            f"{shared[0][1]} (test) and {shared[0][0]} (train); remove them from one split"
        )
