"""Data-parallel training: solver processes that average their gradients before each update.

Each solver reads its share of the records (solver_rank of solver_count), and weights stay equal. On
several GPUs Caffe's own NCCL does it (parallel.cpp); on CPU cores, shared memory: small nets gain
far more from a second process than from a second OpenBLAS thread.
"""

import ctypes
import multiprocessing
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier

import caffe
import numpy as np

from tools.run import device
from tools.run.child import PR_SET_PDEATHSIG


def take_part(rank: int, count: int) -> None:
    """Tell this process's Caffe that it is one of several solvers; before its solver is made."""
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(count > 1)  # Python layers ask for it


def join(solver: caffe.SGDSolver, rank: int, shared: ctypes.Array, barrier: Barrier) -> None:
    """Give a solver rank 0's weights, and the mean of all solvers' gradients before each update.

    shared: float32, solvers x parameters, as a flat ctypes array. Sums keep the order of the ranks,
    so that the weights of all solvers stay equal to the last bit.
    """
    rows = np.frombuffer(shared, np.float32).reshape(barrier.parties, -1)
    blobs = [blob for blobs in solver.net.params.values() for blob in blobs]
    weights, gradients = [blob.data for blob in blobs], [blob.diff for blob in blobs]
    ends = np.cumsum([blob.count for blob in blobs])
    parts = [slice(end - blob.count, end) for end, blob in zip(ends, blobs, strict=True)]

    def put(arrays: list[np.ndarray], row: np.ndarray) -> None:
        for array, part in zip(arrays, parts, strict=True):
            row[part] = array.ravel()

    def take(arrays: list[np.ndarray], row: np.ndarray) -> None:
        for array, part in zip(arrays, parts, strict=True):
            array[...] = row[part].reshape(array.shape)

    def average() -> None:
        put(gradients, rows[rank])
        barrier.wait()
        mean = rows.sum(axis=0) / np.float32(len(rows))
        barrier.wait()  # all have read before anybody writes the next gradients
        take(gradients, mean)

    if rank == 0:
        put(weights, rows[0])
    barrier.wait()
    take(weights, rows[0])
    barrier.wait()
    solver.add_callback(lambda: None, average)


def join_nccl(solver: caffe.SGDSolver, rank: int, uid: str) -> None:
    """Do what join() does, on GPUs; uid: caffe.NCCL.new_uid() of rank 0."""
    nccl = caffe.NCCL(solver, uid)  # waits for all ranks
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(nccl))  # the solver points into it until the end


def helper(
    solver_file: str,
    state: str,
    rank: int,
    count: int,
    gpu: int | None,
    joined: Callable,
    *shared: object,
) -> None:
    """Train in step with rank 0 until that ends this process.

    joined: join or join_nccl, with what it takes besides solver and rank.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    device.activate(gpu)
    take_part(rank, count)
    solver = caffe.get_solver(solver_file)
    if state:
        solver.restore(state)
    joined(solver, rank, *shared)
    solver.step(solver.param.max_iter + 1)  # one more than rank 0: waits there for its end


def guard(processes: list[BaseProcess]) -> int:
    """Start a process that ends this one with a sentence where one of the others dies; its pid.

    The others are then waited for in vain, in code that keeps the GIL: no thread could do it.
    """
    guarded = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(ProcessLookupError):  # one that died, and was waited for, before this began
            poll = select.poll()
            for process in processes:
                poll.register(os.pidfd_open(process.pid), select.POLLIN)
            poll.poll()
        os.write(sys.stderr.fileno(), b"error: a solver process died; the same command resumes\n")
        os.kill(guarded, signal.SIGKILL)
    finally:
        os._exit(1)  # never back into the training that it was forked from


@contextmanager
def helpers(
    solver: caffe.SGDSolver, solver_file: str, state: str, count: int, gpus: list[int]
) -> Iterator[None]:
    """Start count - 1 solver processes in step with this one's, which take_part() made rank 0.

    solver_file: what they read. state: the solver state to start from, or "". gpus: the rank's
    GPUs, [] for the CPU. Where one of them dies, this process is killed, behind a sentence.
    """
    if count == 1:
        yield
        return
    context = multiprocessing.get_context("spawn")
    if gpus:
        joined, shared = join_nccl, (caffe.NCCL.new_uid(),)
    else:
        size = sum(blob.count for blobs in solver.net.params.values() for blob in blobs)
        rows = context.RawArray(ctypes.c_float, count * size)
        joined, shared = join, (rows, context.Barrier(count))
    processes = [
        context.Process(
            target=helper,
            args=(solver_file, state, rank, count, gpus[rank] if gpus else None, joined, *shared),
            daemon=True,
        )
        for rank in range(1, count)
    ]
    for process in processes:
        process.start()
    watcher = guard(processes)
    try:
        joined(solver, 0, *shared)
        yield
    finally:
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)
        for process in processes:
            process.kill()
