"""What the service does with a picture: check, encode, search. API and page call the same."""

import asyncio
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data_prep import DataError
from data_prep.lmdb_reader import open_rows
from data_prep.manifest import data_folder
from eval.codes import pack_latent
from eval.files import InputError
from tools.codes.extract import SPLITS
from tools.run import record as runs
from tools.run.job import nets, stop
from tools.search.grid import picture_of
from tools.search.index import Index, open_index
from tools.search.query import find
from tools.serve.answer import Answer, Class, Health, Neighbour, RunInfo
from tools.serve.limits import TOP, Refused, check_picture

LOG = logging.getLogger("serve")
CLASSES = 5  # of an answer, at most


@dataclass(frozen=True)
class Run:
    """A run that can be searched: its index, its net's feature layer, its pictures.

    read(rows) gives pictures of its LMDB, to one thread at a time, under lock.
    """

    folder: Path
    info: RunInfo
    index: Index
    features: str
    read: object
    lock: threading.Lock


def open_run(folder, data_root, lmdbs, files):
    """Open a run's folder for the service.

    lmdbs: {path: open_rows' (keys, read) and a lock}, of those that are open: LMDB opens none
    twice in a process. files: an ExitStack that closes them. Raises InputError or DataError where
    the run cannot be searched.
    """
    index, settings = open_index(folder), runs.record_of(folder)["settings"]
    spec = nets()["nets"][settings["net"]]
    data = data_folder(
        *(Path(data_root), settings["dataset"], spec["side"], spec["channels"]),
        settings["subset"] or None,
    )
    lmdb = data / f"{SPLITS['database']}_lmdb"
    if lmdb not in lmdbs:
        lmdbs[lmdb] = *files.enter_context(open_rows(lmdb)), threading.Lock()
    keys, read, lock = lmdbs[lmdb]
    known = index.keys[: len(index.keys) - len(index.added_pictures)].tolist()
    if [key.encode() for key in keys] != known:
        raise InputError(f"{lmdb} is not the data that {folder}'s codes are of")
    info = RunInfo(
        name=folder.name,
        bits=index.bits,
        dataset=settings["dataset"],
        net=settings["net"],
        pictures=int(np.count_nonzero(~index.removed)),
        categories=index.class_names,
        fine=index.features is not None,
    )

    return Run(folder, info, index, spec["features"], read, lock)


def open_runs(folder, data_root, files):
    """Return {name: Run} of a run's folder, first, and of those beside it on the same data set.

    Stops where the run itself cannot be searched; the log says which others are left out, and why.
    """
    lmdbs = {}
    try:
        found = [open_run(folder, data_root, lmdbs, files)]
    except (InputError, DataError) as error:
        stop(str(error))
    mine, others = runs.record_of(folder)["settings"], []
    for path in sorted(folder.parent.glob("*/codes.h5")):
        beside = path.parent
        if beside.resolve() == folder.resolve():
            continue
        try:
            settings = runs.record_of(beside)["settings"]
            if all(settings.get(key) == mine[key] for key in ("dataset", "subset")):
                others.append(open_run(beside, data_root, lmdbs, files))
        except (InputError, DataError, OSError) as error:
            LOG.warning("%s is left out: %s", beside, error)
    found += sorted(others, key=lambda run: run.info.bits)
    return {run.info.name: run for run in found}


class Service:
    """Answers pictures from runs (a dict of Run, the default first) with an Encoder.

    radius: of fine search's candidates, in bits.
    """

    def __init__(self, runs, encoder, radius):
        self.runs = runs
        self.encoder = encoder
        self.radius = radius

    def health(self):
        """Return Health."""
        return Health(caffe_starts=self.encoder.starts, waiting=self.encoder.queue.qsize())

    def run(self, name):
        """Return the Run of a name, the first for None; raise Refused where there is none."""
        if name is None:
            return next(iter(self.runs.values()))
        if name not in self.runs:
            raise Refused(404, f"There is no run of this name; there are {', '.join(self.runs)}.")
        return self.runs[name]

    async def search(self, picture, run_name, top, category, fine):
        """Return the Answer to a picture file's bytes; raise Refused where there is none.

        run_name, category: str or None. top: 1 to TOP. fine: bool, the papers' second stage.
        """
        began = time.perf_counter()
        run = self.run(run_name)
        if not 1 <= top <= TOP:
            raise Refused(422, f"The number of neighbours is out of range: 1 to {TOP}.")
        if category is not None and category not in run.info.categories:
            raise Refused(422, "There is no category of this name.")
        if fine and not run.info.fine:
            raise Refused(
                422, "This run has no features: 'make codes FEATURES=1' makes fine search possible."
            )
        await asyncio.to_thread(check_picture, picture)
        blobs = ["prob"] + ([run.features] if fine else [])
        encoded = await asyncio.wrap_future(
            self.encoder.submit(run.folder, run.index.fingerprint, picture, blobs)
        )
        radius = self.radius if fine else None
        return await asyncio.to_thread(rank, run, encoded, top, category, radius, began)

    def picture(self, name, row):
        """Return the PNG of a row of a run's database; raise Refused where there is none."""
        run = self.run(name)
        if not 0 <= row < len(run.index.keys):
            raise Refused(404, "There is no picture of this number.")
        with run.lock:
            pixels = picture_of(run.index, row, run.read)
        return cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes()


def rank(run, encoded, top, category, radius, began):
    """Return the Answer to an encoded picture: [latent, probabilities, features with a radius].

    radius: of fine search, or None. began: time.perf_counter()'s when the picture came.
    """
    index, names = run.index, run.info.categories
    code = pack_latent(encoded[0][None])
    label = names.index(category) if category is not None else None
    features = encoded[2][None] if radius is not None else None
    rows, distances, euclidean = find(index, code, features, top, label, radius)
    neighbours = [
        Neighbour(
            rank=place + 1,
            row=row,
            key=index.keys[row].decode(),
            label=names[index.labels[row]] if index.labels[row] >= 0 else None,
            distance=int(distances[place]),
            euclidean=None if euclidean is None else float(euclidean[place]),
            picture=f"/api/runs/{run.info.name}/pictures/{row}",
        )
        for place, row in enumerate(rows.tolist())
    ]
    best = np.argsort(-encoded[1], kind="stable")[:CLASSES]
    return Answer(
        run=run.info.name,
        bits=index.bits,
        code="".join(map(str, np.unpackbits(code[0])[: index.bits])),
        classes=[Class(name=names[c], probability=float(encoded[1][c])) for c in best],
        category=category,
        radius=radius,
        neighbours=neighbours,
        milliseconds=round(1000 * (time.perf_counter() - began), 2),
    )
