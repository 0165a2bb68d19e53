"""Snapshots of a run, snapshots/iter_N.caffemodel and .solverstate: whole or absent."""

import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.files import file_digest, sync
from eval.files import naming, write_atomically
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

    The solver state's path to its weights is mended to the final one, and both files are renamed,
    caffemodel first: where there is a solver state, its weights are there too. Raise OSError,
    naming the file, where the disk does not take one.
    """
    from caffe.proto import caffe_pb2

    folder, partial = run / "snapshots", partial_folder(run)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _check_space(solver, partial)
    n = solver.iter
    model, state = _snapshot(solver, partial)
    final = folder / f"iter_{n}.caffemodel"
    if not any(layer.blobs for layer in caffe_pb2.NetParameter.FromString(model).layer):
        raise OSError(f"{final} would have no weights: Caffe wrote none")
    written = caffe_pb2.SolverState.FromString(state)
    if written.iter != n:
        raise OSError(f"Caffe's solver state says iteration {written.iter}, but {n} was written")
    written.learned_net = str(final)
    contents = {final: model, folder / f"iter_{n}.solverstate": written.SerializeToString()}
    for path, content in contents.items():
        with naming(path):
            (partial / path.name).write_bytes(content)
            sync(partial / path.name)
    for path in contents:
        os.replace(partial / path.name, path)
    sync(folder)
    shutil.rmtree(partial)
    for old in complete(folder)[:-KEEP]:
        (folder / f"iter_{old}.solverstate").unlink()
        (folder / f"iter_{old}.caffemodel").unlink()


def _snapshot(solver: "caffe.SGDSolver", folder: Path) -> list[bytes]:
    """Return a solver's caffemodel and solver state.

    Caffe ends the process where it cannot write a file, so that it writes these into memory, by
    links of the names that it gives them in the folder.
    """
    with ExitStack() as opened:
        files = []
        for kind in ("caffemodel", "solverstate"):
            file = opened.enter_context(open(os.memfd_create(kind), "rb"))
            (folder / f"s_iter_{solver.iter}.{kind}").symlink_to(f"/proc/self/fd/{file.fileno()}")
            files.append(file)
        solver.snapshot()
        return [file.read() for file in files]


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
    sync(run)
    finish(run, n)


def finish(run: Path, n: int) -> None:
    """Record that a run's model is that of iteration n, and leave no part of a snapshot."""
    shutil.rmtree(partial_folder(run), ignore_errors=True)  # of one that was killed
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
