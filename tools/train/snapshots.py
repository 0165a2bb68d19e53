"""Snapshots of a run, snapshots/iter_N.caffemodel and .solverstate: whole or absent."""

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.files import file_digest, sync
from eval.files import write_atomically
from tools.run import record
from tools.run.failure import Failure

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
    _check_space(solver, partial)
    solver.snapshot()
    n = solver.iter
    model, state = partial / f"s_iter_{n}.caffemodel", partial / f"s_iter_{n}.solverstate"
    final = folder / f"iter_{n}.caffemodel"
    net = caffe_pb2.NetParameter.FromString(model.read_bytes())
    if not any(layer.blobs for layer in net.layer):
        raise OSError(f"{model} has no weights after it was written")
    written = caffe_pb2.SolverState.FromString(state.read_bytes())
    if written.iter != n:
        raise OSError(f"{state} says iteration {written.iter}, but {n} was written")
    written.learned_net = str(final)
    state.write_bytes(written.SerializeToString())
    for path in (model, state):
        sync(path)
    os.replace(model, final)
    os.replace(state, folder / f"iter_{n}.solverstate")
    sync(folder)
    shutil.rmtree(partial)
    for old in complete(folder)[:-KEEP]:
        (folder / f"iter_{old}.solverstate").unlink()
        (folder / f"iter_{old}.caffemodel").unlink()


def _check_space(solver: "caffe.SGDSolver", folder: Path) -> None:
    """Raise Failure where a snapshot has no room: Caffe would end the process."""
    weights = 4 * sum(blob.count for blobs in solver.net.params.values() for blob in blobs)
    needed, free = 2 * weights + (1 << 20), shutil.disk_usage(folder).free  # and their history
    if free < needed:
        raise Failure(
            f"{folder}: a snapshot needs {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free; "
            "free some space, then the same command goes on from the snapshot before"
        )


def complete(folder: Path) -> list[int]:
    """Return the iterations of the complete snapshots in a folder, ascending."""
    states = (re.fullmatch(r"iter_(\d+)\.solverstate", path.name) for path in folder.glob("*"))
    found = sorted(int(state.group(1)) for state in states if state)
    return [n for n in found if (folder / f"iter_{n}.caffemodel").exists()]


def restore(solver: "caffe.SGDSolver", folder: Path, n: int) -> None:
    """Bring a solver to iteration n; its place in the data and its random state start anew."""
    from caffe.proto import caffe_pb2

    path = folder / f"iter_{n}.solverstate"
    state = caffe_pb2.SolverState.FromString(path.read_bytes())
    weights = str(folder / f"iter_{n}.caffemodel")
    if state.learned_net != weights:  # the run's folder was moved
        state.learned_net = weights
        with write_atomically(path) as mended:
            mended.write_bytes(state.SerializeToString())
    solver.restore(str(path))


def publish(run: Path, n: int) -> None:
    """Give the weights of snapshot n a second name, the run's model, and record which they are.

    A hard link, no copy. Until the record is written, the model counts as that of no iteration.
    """
    path, beside = run / "model.caffemodel", run / ".model.caffemodel.partial"
    beside.unlink(missing_ok=True)
    os.link(run / "snapshots" / f"iter_{n}.caffemodel", beside)
    os.replace(beside, path)
    shutil.rmtree(partial_folder(run), ignore_errors=True)  # of a snapshot that was killed
    sync(run)
    content = record.read_record(run)
    record.write_record(run, content | {"model": model_record(run, n)})


def model_record(run: Path, n: int) -> dict:
    """Return what run.json says of a run's model, the weights of iteration n."""
    return {"iters": n, "sha256": file_digest(run / "model.caffemodel", "sha256")}


def model_of(run: Path, content: dict) -> int | None:
    """Return the iteration that model.caffemodel is of, None where there is none, or a damaged one.

    content: run.json's. In runs from before it recorded the model, it is known as a snapshot's
    weights under a second name.
    """
    path = run / "model.caffemodel"
    if not path.exists() or not content:
        return None
    digest = file_digest(path, "sha256")
    model = content.get("model")
    if model:
        return model["iters"] if model["sha256"] == digest else None
    for n in reversed(complete(run / "snapshots")):
        if file_digest(run / "snapshots" / f"iter_{n}.caffemodel", "sha256") == digest:
            return n
    return None if complete(run / "snapshots") else content["settings"]["iters"]


def newest_intact(folder: Path) -> int:
    """Return the iteration of the newest snapshot that can be read, 0 where there is none.

    Those behind it that cannot be read are named and removed.
    """
    for n in reversed(complete(folder)):
        if _is_intact(folder, n):
            return n
        print(f"{folder}/iter_{n} is damaged and left out: an older snapshot is taken", flush=True)
        (folder / f"iter_{n}.solverstate").unlink()
        (folder / f"iter_{n}.caffemodel").unlink()
    return 0


def _is_intact(folder: Path, n: int) -> bool:
    from caffe.proto import caffe_pb2
    from google.protobuf.message import DecodeError

    try:
        net = caffe_pb2.NetParameter.FromString((folder / f"iter_{n}.caffemodel").read_bytes())
        state = caffe_pb2.SolverState.FromString((folder / f"iter_{n}.solverstate").read_bytes())
    except DecodeError:
        return False
    return state.iter == n and any(layer.blobs for layer in net.layer)
