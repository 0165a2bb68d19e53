"""Data-parallel training on several GPUs: processes that average gradients before each update.

Each solver reads its share of the records (solver_rank of solver_count), and weights stay equal, by
Caffe's own NCCL (parallel.cpp). A CPU needs one process, whose layers run on all cores.
"""

import ctypes
import multiprocessing
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import caffe

from tools.run import device
from tools.run.child import PR_SET_PDEATHSIG


def take_part(rank: int, count: int) -> None:
    """Tell this process's Caffe that it is one of several solvers; before its solver is made."""
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(count > 1)  # Python layers ask for it


def join(solver: caffe.SGDSolver, uid: str) -> None:
    """Give a solver rank 0's weights, and the mean of all solvers' gradients before each update.

    uid: caffe.NCCL.new_uid() of rank 0.
    """
    nccl = caffe.NCCL(solver, uid)  # waits for all ranks
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(nccl))  # the solver points into it until the end


def helper(solver_file: str, state: str, rank: int, count: int, gpu: int, uid: str) -> None:
    """Train in step with rank 0 until that ends this process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    device.activate(gpu)
    take_part(rank, count)
    solver = caffe.get_solver(solver_file)
    if state:
        solver.restore(state)
    join(solver, uid)
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

    solver_file: what they read. state: the solver state to start from, or "". gpus: the ranks'; a
    CPU has one process alone. Where one of them dies, this process is killed, behind a sentence.
    """
    if count == 1:
        yield
        return
    context = multiprocessing.get_context("spawn")
    uid = caffe.NCCL.new_uid()
    processes = [
        context.Process(
            target=helper,
            args=(solver_file, state, rank, count, gpus[rank], uid),
            daemon=True,
        )
        for rank in range(1, count)
    ]
    for process in processes:
        process.start()
    watcher = guard(processes)
    try:
        join(solver, uid)
        yield
    finally:
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)
        for process in processes:
            process.kill()
