"""The table of data sets: everything that asks about one by its name asks here.

A data set is a line of the table and a module of its name, ``data_prep/<name>.py``, with

- ``load(source: Source) -> Dataset``; or, where its pictures lie in a folder (``pictures=True``),
- ``listing(images: Path, skip: bool) -> Listing``, which looks at names and sizes of files only,
  and ``load(listed: Listing) -> Dataset``.

``Source`` is below, ``Dataset`` in ``data_prep.dataset``, ``Listing`` in ``data_prep.folder``.
These functions raise DataError for files that cannot be used; skip says that a listed picture may
be missing. Every command imports this module, so it imports neither NumPy nor Caffe.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from data_prep import DataError


class Entry(NamedTuple):
    """One data set's line of the table."""

    name: str
    net: str  # the default of NET
    net_on_cpu: str = ""  # and where Caffe works on a CPU, if it is another
    encoding: str = "raw"  # the default of ENCODING
    pictures: bool = False  # made of the folder IMAGES
    archive: bool = False  # may come from an archive of one's own, CIFAR10_ARCHIVE


class Source(NamedTuple):
    """Where a data set that is not made of a folder of pictures comes from."""

    raw: Path  # the folder where its files lie, or are fetched to
    archive: Path | None = None  # to be read instead, of an Entry with archive=True


# JPEG is the default where raw pixels at 256x256x3 would take much: SUN397 21 GB, Yahoo-1M 221 GB,
# NUS-WIDE 38 to 42 GB, MS COCO 24 GB.
TABLE = (
    Entry("mnist", net="lenet"),
    Entry("fashion_mnist", net="lenet"),
    Entry("cifar10", net="alexnet", archive=True),
    Entry("sun397", net="alexnet", pictures=True, encoding="jpeg"),
    Entry("yahoo1m", net="alexnet", pictures=True, encoding="jpeg"),
    Entry("nuswide", net="alexnet", pictures=True, encoding="jpeg"),
    Entry("nuswide81", net="alexnet", pictures=True, encoding="jpeg"),
    Entry("coco", net="alexnet", pictures=True, encoding="jpeg"),
    Entry("mnist2x2", net="lenet"),
    Entry("cifar10x2", net="cifar_small", archive=True),
    Entry("digits", net="lenet"),
    Entry("folder", net="alexnet", net_on_cpu="efficientnet_lite0", pictures=True),
)
DATASETS = {entry.name: entry for entry in TABLE}


def entry_of(dataset: str) -> Entry:
    """Return a data set's line of the table; DataError where there is none."""
    if dataset not in DATASETS:
        raise DataError(f"the data set {dataset} is not known; there are {', '.join(DATASETS)}")
    return DATASETS[dataset]


def module_of(dataset: str) -> ModuleType:
    """Return a data set's module, imported, with all that it needs."""
    return importlib.import_module(f"data_prep.{dataset}")


def name_of(dataset: str, images: Path | str | None) -> str:
    """Return the name that its data folder and runs have.

    It is the data set's own, and ``folder-<name of the folder images>`` for ``folder``.
    """
    return f"folder-{Path(images).resolve().name}" if dataset == "folder" else dataset
