"""Snapshots of a run, snapshots/iter_N.caffemodel and .solverstate: whole or absent."""

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.files import sync

if TYPE_CHECKING:
    import caffe

KEEP = 2  # the newest pairs; older ones are removed


def partial_folder(run: Path) -> Path:
    """Return the folder that Caffe writes snapshots of a run into, before they get their names."""
    return run / "snapshots" / ".partial"


def save(solver: "caffe.SGDSolver", run: Path) -> None:
    """Snapshot a solver whose snapshot_prefix is `s` in partial_folder(run).

    Both files are read back, the solver state's path to its weights is mended to the final one, and
    they are renamed, caffemodel first: where there is a solver state, its weights are there too.
    """
    from caffe.proto import caffe_pb2

    folder, partial = run / "snapshots", partial_folder(run)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    solver.snapshot()
    n = solver.iter
    model, state = partial / f"s_iter_{n}.caffemodel", partial / f"s_iter_{n}.solverstate"
    final = folder / f"iter_{n}.caffemodel"
    net = caffe_pb2.NetParameter.FromString(model.read_bytes())
    if not any(layer.blobs for layer in net.layer):
        raise OSError(f"{model} has no weights after it was written")
    record = caffe_pb2.SolverState.FromString(state.read_bytes())
    if record.iter != n:
        raise OSError(f"{state} says iteration {record.iter}, but {n} was written")
    record.learned_net = str(final)
    state.write_bytes(record.SerializeToString())
    for path in (model, state):
        sync(path)
    os.replace(model, final)
    os.replace(state, folder / f"iter_{n}.solverstate")
    sync(folder)
    shutil.rmtree(partial)
    for old in complete(folder)[:-KEEP]:
        (folder / f"iter_{old}.solverstate").unlink()
        (folder / f"iter_{old}.caffemodel").unlink()


def complete(folder: Path) -> list[int]:
    """Return the iterations of the complete snapshots in a folder, ascending."""
    states = (re.fullmatch(r"iter_(\d+)\.solverstate", path.name) for path in folder.glob("*"))
    found = sorted(int(state.group(1)) for state in states if state)
    return [n for n in found if (folder / f"iter_{n}.caffemodel").exists()]


def restore(solver: "caffe.SGDSolver", folder: Path, n: int) -> None:
    """Bring a solver to iteration n; its place in the data and its random state start anew."""
    from caffe.proto import caffe_pb2

    path = folder / f"iter_{n}.solverstate"
    record = caffe_pb2.SolverState.FromString(path.read_bytes())
    weights = str(folder / f"iter_{n}.caffemodel")
    if record.learned_net != weights:  # the run's folder was moved
        record.learned_net = weights
        mended = path.with_name(f".{path.name}.partial")
        mended.write_bytes(record.SerializeToString())
        os.replace(mended, path)
    solver.restore(str(path))


def publish(folder: Path, n: int, path: Path) -> None:
    """Give the snapshot's weights a second name, the run's model; a hard link, no copy."""
    beside = path.with_name(f".{path.name}.partial")
    beside.unlink(missing_ok=True)
    os.link(folder / f"iter_{n}.caffemodel", beside)
    os.replace(beside, path)
