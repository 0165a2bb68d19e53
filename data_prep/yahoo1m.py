"""Yahoo-1M (Lin et al.): 1,124,086 pictures of 116 kinds of clothing; not public.

Its owner's lists, ``train.txt`` and ``test.txt`` with lines of ``path label``, lie in the pictures'
folder, as those of one's own pictures do (folder.py); ``classes.txt`` is optional.
"""

from pathlib import Path

from data_prep import DataError
from data_prep import folder as own
from data_prep.dataset import Dataset

CLASSES = 116
SIZES = {"train": 1_011_723, "test": 112_363}


def listing(images: Path, skip: bool) -> own.Listing:
    """Return what the lists say; DataError where they are not of Yahoo-1M's sizes."""
    own.require_lists(images)
    listed = own.from_lists(images, skip)
    sizes = {split: len(keys) for split, keys in listed.keys.items()}
    if sizes != SIZES or len(listed.classes) != CLASSES:
        raise DataError(
            f"{images}: its lists have {sizes['train']:,} training and {sizes['test']:,} test "
            f"pictures of {len(listed.classes)} classes, where Yahoo-1M has {SIZES['train']:,} and "
            f"{SIZES['test']:,} of {CLASSES}; give other lists as DATASET=folder"
        )
    shared = set(listed.keys["train"]).intersection(listed.keys["test"])
    if shared:
        raise DataError(
            f"{images}: {len(shared)} paths are in both lists, such as {min(shared)}; remove them "
            "from one"
        )
    listed.notes.append("the splits' contents were not compared with each other")
    return listed


def load(listed: own.Listing) -> Dataset:
    """Return the data set."""
    return own.dataset(listed)
