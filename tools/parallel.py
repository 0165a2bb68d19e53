"""Data-parallel training on CPU cores: solver processes that average their gradients.

As Caffe trains on several GPUs (parallel.cpp): each solver reads its share of the records
(solver_rank of solver_count), gradients are averaged before each update, and weights stay equal.
Small nets gain far more from a second process than from a second OpenBLAS thread.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import contextmanager

import caffe
import numpy as np

from tools.caffe_process import PR_SET_PDEATHSIG


def take_part(rank, count):
    """Tell this process's Caffe that it is one of several solvers; before its solver is made."""
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(count > 1)  # Python layers ask for it


def join(solver, rank, rows, barrier):
    """Give a solver rank 0's weights, and the mean of all solvers' gradients before each update.

    rows: float32, solvers x parameters, shared. Sums keep the order of the ranks, so that the
    weights of all solvers stay equal to the last bit.
    """
    blobs = [blob for blobs in solver.net.params.values() for blob in blobs]
    weights, gradients = [blob.data for blob in blobs], [blob.diff for blob in blobs]
    ends = np.cumsum([blob.count for blob in blobs])
    parts = [slice(end - blob.count, end) for end, blob in zip(ends, blobs, strict=True)]

    def put(arrays, row):
        for array, part in zip(arrays, parts, strict=True):
            row[part] = array.ravel()

    def take(arrays, row):
        for array, part in zip(arrays, parts, strict=True):
            array[...] = row[part].reshape(array.shape)

    def average():
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


def helper(solver_file, state, rank, count, shared, barrier):
    """Train in step with rank 0, to the last iteration or until that ends this process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    caffe.set_mode_cpu()
    take_part(rank, count)
    solver = caffe.get_solver(solver_file)
    if state:
        solver.restore(state)
    join(solver, rank, np.frombuffer(shared, np.float32).reshape(count, -1), barrier)
    solver.step(solver.param.max_iter)


@contextmanager
def helpers(solver, solver_file, state, count):
    """Start count - 1 solver processes in step with this one's, which take_part() made rank 0.

    solver_file: what they read. state: the solver state to start from, or "". Where one of them
    dies, this process ends with a sentence and exit code 1.
    """
    if count == 1:
        yield
        return
    context = multiprocessing.get_context("spawn")
    size = sum(blob.count for blobs in solver.net.params.values() for blob in blobs)
    shared, barrier = context.RawArray(ctypes.c_float, count * size), context.Barrier(count)
    processes = [
        context.Process(
            target=helper, args=(solver_file, state, rank, count, shared, barrier), daemon=True
        )
        for rank in range(1, count)
    ]

    ended = threading.Event()

    def watch(process):
        process.join()  # exit code 0: all iterations are done, and this process is at its last
        if process.exitcode and not ended.is_set():  # the barrier waits for the dead for ever
            print("error: a solver process died; the same command resumes", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)

    for process in processes:
        process.start()
        threading.Thread(target=watch, args=(process,), daemon=True).start()
    try:
        join(solver, 0, np.frombuffer(shared, np.float32).reshape(count, -1), barrier)
        yield
    finally:
        ended.set()
        for process in processes:
            process.kill()
