"""The runs that the service searches: a run's own, and those beside it on the same data set."""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.lmdb_reader import open_rows
from data_prep.manifest import data_folder
from tools.run.data import lmdb_of
from tools.run.failure import FAMILY, Failure
from tools.run.nets import net_of
from tools.run.record import read_record
from tools.search.index import Index, open_index, picture_of
from tools.serve.schema import RunInfo

LOG = logging.getLogger("serve")
EXAMPLES = 8  # test pictures of a run, at most, that the page offers


class Pictures(NamedTuple):
    """An open LMDB: open_rows' keys and read, which one thread at a time may call, under lock."""

    keys: list[str]
    read: Callable
    lock: threading.Lock


@dataclass(frozen=True)
class Run:
    """A run that can be searched: its folder, its index, and the pictures of its data.

    examples: pictures of its test set, uint8 C x H x W, BGR.
    """

    folder: Path
    info: RunInfo
    index: Index
    pictures: Pictures
    examples: list[np.ndarray]

    def shown_key(self, row: int) -> str:
        """Return a row's key as anybody may see it: an added picture's is a path on this server."""
        key = self.index.keys[row].decode()
        return key if row < self.index.base else os.path.basename(key)

    def picture(self, row: int) -> np.ndarray:
        """Return the picture of a row of the index, uint8 C x H x W, BGR."""
        with self.pictures.lock:
            return picture_of(self.index, row, lambda at: self.pictures.read([at])[0][0])


def open_runs(folder: Path, data_root: Path, files: ExitStack) -> dict[str, Run]:
    """Return the runs by name: that of a folder first, then those beside it on the same data set.

    files: closes what is opened. Raise Failure, InputError or DataError where the run itself cannot
    be searched; the log says which others are left out, and why.
    """
    lmdbs = {}
    found = [open_run(folder, data_root, lmdbs, files)]
    mine, others = read_record(folder)["settings"], []
    for path in sorted(folder.parent.glob("*/codes.h5")):
        beside = path.parent
        if beside.resolve() == folder.resolve():
            continue
        try:
            settings = read_record(beside)["settings"]
            if all(settings.get(key) == mine[key] for key in ("dataset", "subset")):
                others.append(open_run(beside, data_root, lmdbs, files))
        except (*FAMILY, OSError) as error:
            LOG.warning("%s is left out: %s", beside, error)
    found += sorted(others, key=lambda run: run.info.bits)
    return {run.info.name: run for run in found}


def open_run(folder: Path, data_root: Path, lmdbs: dict[Path, Pictures], files: ExitStack) -> Run:
    """Open a run's folder; raise Failure, InputError or DataError where it cannot be searched.

    lmdbs: those that are open, which this adds to: LMDB opens none twice in a process. files:
    closes them.
    """
    index, settings = open_index(folder), read_record(folder)["settings"]
    net, dataset = net_of(settings["net"]), settings["dataset"]
    data = data_folder(data_root, dataset, net.side, net.channels, settings.get("subset") or None)
    lmdb = lmdb_of(data, "database")
    if lmdb not in lmdbs:
        lmdbs[lmdb] = Pictures(*files.enter_context(open_rows(lmdb)), threading.Lock())
    if [key.encode() for key in lmdbs[lmdb].keys] != index.keys[: index.base].tolist():
        raise Failure(f"{lmdb} is not the data that {folder}'s codes are of")
    examples = examples_of(lmdb_of(data, "query"))
    info = RunInfo(
        name=folder.name,
        bits=index.bits,
        dataset=dataset,
        net=net.name,
        pictures=int(np.count_nonzero(~index.removed)),
        categories=index.class_names,
        index=index.kind,
        examples=len(examples),
        fine=index.features is not None,
    )
    return Run(folder, info, index, lmdbs[lmdb], examples)


def examples_of(lmdb: Path) -> list[np.ndarray]:
    """Return pictures of a test set to search with, one of a class as far as there are so many."""
    if not lmdb.is_dir():  # the data of a run that was moved without them
        return []
    with open_rows(lmdb) as (keys, read):
        rows = np.linspace(0, len(keys) - 1, min(len(keys), 20 * EXAMPLES)).astype(int)
        pictures, labels = read(rows)
    first = first_of_each(labels)
    others = np.setdiff1d(np.arange(len(rows)), first)
    return list(pictures[np.concatenate((first, others))[:EXAMPLES]])


def first_of_each(labels: np.ndarray) -> np.ndarray:
    """Return the first row of each label, in the labels' order, none twice.

    labels: (n,) numbers, or (n, L) of 0 and 1.
    """
    if labels.ndim == 1:
        return np.unique(labels, return_index=True)[1]
    first = [of_label.argmax() for of_label in labels.T if of_label.any()]
    return np.array(list(dict.fromkeys(first)), np.int64)
