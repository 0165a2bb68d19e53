"""MS COCO 2017 (Lin et al., ECCV 2014): 118,287 and 5,000 pictures, 80 kinds of things in them.

``IMAGES`` is the folder that its owner's archives unpack into:
``annotations/instances_train2017.json`` and ``instances_val2017.json``, and the pictures in
``train2017/`` and ``val2017/``. A picture's labels are the categories of the things marked in it;
val2017 are the queries.
"""

import mmap
from pathlib import Path

import msgspec
import numpy as np

from data_prep import DataError
from data_prep.dataset import Dataset
from data_prep.folder import Listing, dataset_with_lists, listing_of

FOLDERS = {"train": "train2017", "test": "val2017"}
SIZES = {"train": 118_287, "test": 5_000}
CATEGORIES = 80


class Image(msgspec.Struct, gc=False):
    """A picture of an annotation file; what else is said of it is passed over."""

    id: int
    file_name: str


class Annotation(msgspec.Struct, gc=False):
    """A thing in a picture; its outline, most of the file, is passed over."""

    image_id: int
    category_id: int


class Category(msgspec.Struct, gc=False):
    """A kind of thing."""

    id: int
    name: str


class Annotations(msgspec.Struct):
    """An annotation file."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


def listing(images: Path, skip: bool) -> Listing:
    """Return both splits; DataError where the files are not MS COCO 2017's.

    Pictures without a thing in them are left out.
    """
    keys, labels, names, notes = {}, {}, {}, []
    for split, folder in FOLDERS.items():
        path = images / "annotations" / f"instances_{folder}.json"
        files, rows, names[split] = read(path)
        if len(files) != SIZES[split] or len(names[split]) != CATEGORIES:
            raise DataError(
                f"{path}: has {len(files):,} pictures and {len(names[split])} categories, where MS "
                f"COCO 2017 has {SIZES[split]:,} and {CATEGORIES}; take the owner's file, or give "
                "a part as DATASET=folder with lists of your own"
            )
        labelled = np.flatnonzero(rows.any(axis=1))
        keys[split] = [f"{folder}/{files[row]}" for row in labelled]
        labels[split] = rows[labelled]
        notes.append(
            f"{folder}: {len(files) - len(labelled):,} of {len(files):,} pictures have no category "
            "and are left out"
        )
    if names["train"] != names["test"]:
        raise DataError(f"{images / 'annotations'}: both files have other categories; take one set")
    return listing_of(
        images,
        keys,
        skip=skip,
        labels=labels,
        classes=names["train"],
        order="that of the annotation files' pictures",
        notes=[*notes, "the splits' contents were not compared with each other"],
    )


def load(listed: Listing) -> Dataset:
    """Return the data set, with its splits as list files."""
    return dataset_with_lists(listed)


def read(path: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Return an annotation file's pictures, their labels, and the categories by their ids.

    The pictures are N names; the labels (N, L) uint8 of 0 and 1. The file is mapped, and of its
    outlines nothing is kept. Raises DataError where it is none.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = msgspec.json.decode(data, type=Annotations)
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is no such file; IMAGES is the folder that MS COCO's archives unpack "
            "into, with annotations, train2017 and val2017"
        ) from None
    except (msgspec.DecodeError, ValueError) as error:  # no JSON, of other fields, or empty
        raise DataError(f"{path}: no annotations of MS COCO ({error}); take the owner's") from None
    categories = sorted(found.categories, key=lambda category: category.id)
    column = {category.id: label for label, category in enumerate(categories)}
    if len(column) < len(categories):
        raise DataError(f"{path}: lists a category twice; take the owner's file")
    row = {image.id: at for at, image in enumerate(found.images)}
    names = [image.file_name for image in found.images]
    if len(row) < len(names) or len(set(names)) < len(names):
        raise DataError(f"{path}: lists a picture twice; take the owner's file")
    if not all(name.isprintable() and name for name in names):
        raise DataError(f"{path}: a picture's file_name is no printable text; take the owner's")
    labels = np.zeros((len(names), len(column)), np.uint8)
    for annotation in found.annotations:
        try:
            labels[row[annotation.image_id], column[annotation.category_id]] = 1
        except KeyError as missing:
            raise DataError(
                f"{path}: an annotation is of picture {annotation.image_id} and category "
                f"{annotation.category_id}, and {missing} is not listed; take the owner's file"
            ) from None
    return names, labels, [category.name for category in categories]
