"""A partition of a split's rows through a run's net: what a Dask worker runs, and imports."""

from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from data_prep.lmdb_reader import open_rows
from tools.net.engines import open_run
from tools.net.exported import ExportedNet
from tools.net.trained import BATCH, Outputs, TrainedNet
from tools.run import device

KEPT_OPEN = ExitStack()  # LMDBs, until the process ends


class Work(NamedTuple):
    """What the partitions of one split have in common.

    fingerprint: the net's, which tells retrained weights apart. gpus: numbers, () for the CPU.
    threads: as many compute. engine: ENGINE.
    """

    run: Path
    fingerprint: str
    gpus: tuple[int, ...]
    threads: int
    lmdb: Path
    features: bool
    engine: str = "caffe"


def run_partition(work: Work, start: int, end: int) -> tuple[np.ndarray, Outputs]:
    """Return the labels, as open_rows has them, and the outputs of an LMDB's rows start to end."""
    gpu = own_gpu(work.gpus)
    if work.engine == "caffe":
        device.activate(gpu)  # Caffe's mode is the thread's, and workers have several
    net = worker_net(work.run, work.lmdb.parent, work.fingerprint, gpu, work.threads, work.engine)
    read = worker_reader(work.lmdb, (work.lmdb / "data.mdb").stat().st_ino)
    labels, outputs = [], []
    for first in range(start, end, BATCH):
        pictures, found = read(range(first, min(first + BATCH, end)))
        labels.append(found)
        outputs.append(net(pictures, features=work.features))
    return np.concatenate(labels), Outputs.join(outputs)


def own_gpu(gpus: tuple[int, ...]) -> int | None:
    """Return the GPU of this process, None for the CPU; worker processes take one in turn."""
    if len(gpus) < 2:
        return gpus[0] if gpus else None
    from distributed import get_worker

    return gpus[get_worker().name % len(gpus)]


@lru_cache(maxsize=1)
def worker_net(
    run: Path, data: Path, fingerprint: str, gpu: int | None, threads: int, engine: str
) -> TrainedNet | ExportedNet:
    """Return a run's net, opened once in each process; its arguments tell it from others."""
    threadpool_limits(threads)  # a Dask worker was not started with our environment
    return open_run(run, engine=engine, data=data, batch=BATCH, gpu=gpu, threads=threads)


@lru_cache(maxsize=2)
def worker_reader(lmdb: Path, inode: int) -> object:
    """Return open_rows' read, opened once in each process; inode tells a rebuilt LMDB."""
    return KEPT_OPEN.enter_context(open_rows(lmdb))[1]
