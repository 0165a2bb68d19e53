"""A real Dask scheduler and real worker processes on loopback, each worker on a core of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.run.job import REPO


@contextmanager
def running_cluster(workers: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Yield (address, processes): the scheduler's process, then the workers'.

    All of them are killed in the end.
    """
    from distributed import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = str(Path(sys.executable).parent / "dask")
    commands = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
    commands += [
        [
            "worker",
            address,
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--host",
            "127.0.0.1",
        ]
    ] * workers
    processes = []
    try:
        for place, command in enumerate(commands):
            processes.append(
                subprocess.Popen(
                    [dask, *command],
                    env={**os.environ, "PYTHONPATH": str(REPO), "GLOG_minloglevel": "2"},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            if place:
                core = sorted(os.sched_getaffinity(0))[place - 1]
                os.sched_setaffinity(processes[-1].pid, {core})
        with Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
