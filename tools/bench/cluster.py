"""One worker, two, and two of which one is killed: `python -m tools.bench.cluster RUN_A RUN_B`.

A real Dask scheduler and real worker processes on loopback, each worker on one core. Extracts the
codes of RUN_A and evaluates those of RUN_B, and compares every result with the single-process one.
"""

import argparse
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import h5py

from tools.run.job import REPO


@contextmanager
def running_cluster(workers):
    """Yield (address, processes): a scheduler, then workers, each on a core of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = str(Path(sys.executable).parent / "dask")
    words = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
    words += [["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * workers
    from distributed import Client

    processes = []
    try:
        for place, arguments in enumerate(words):
            processes.append(
                subprocess.Popen(
                    [dask, *arguments],
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


def extract(run, words):
    """Extract the codes of a run; return a digest of every dataset."""
    data = re.search(r'source: "(.*)/train_lmdb"', (run / "train_val.prototxt").read_text())[1]
    command = [sys.executable, "-m", "tools.codes.extract", str(run), data]
    command += [str(run / "model.caffemodel"), "--threads", "1", *words]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "GLOG_minloglevel": "2"}
    with open(os.devnull, "w") as bar:
        environment["SSDH_TERMINAL"] = str(bar.fileno())
        subprocess.run(
            command, env=environment, cwd=REPO, check=True, stdout=bar, pass_fds=(bar.fileno(),)
        )
    digest = hashlib.sha256()
    with h5py.File(run / "codes.h5") as file:
        for group in ("database", "query"):
            for name in ("latent", "codes", "probabilities", "labels", "key"):
                digest.update(file[group][name][:].tobytes())
    return digest.hexdigest()[:16]


def evaluate(run, words):
    """Evaluate the codes of a run; return a digest of metrics.json."""
    command = [sys.executable, "-m", "tools.evaluate", str(run / "codes.h5"), *words]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    return hashlib.sha256((run / "metrics.json").read_bytes()).hexdigest()[:16]


def finished(dask_scheduler):
    """Partitions that are done; runs on the scheduler."""
    log = dask_scheduler.transition_log
    return sum(entry[1] == "processing" and entry[2] == "memory" for entry in log)


def kill_in_the_middle(address, worker, partitions):
    """Kill a worker process with SIGKILL once so many partitions are done and others are not."""
    from distributed import Client

    with Client(address) as client:
        while client.run_on_scheduler(finished) < partitions:
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)


def measure(function, run, workers, kill_at=None):
    """Return (seconds, digest, partitions) on a cluster of some workers.

    kill_at: partitions after which one worker is killed.
    """
    from distributed import Client

    with running_cluster(workers) as (address, processes):
        if kill_at:
            arguments = (address, processes[1], kill_at)
            killer = threading.Thread(target=kill_in_the_middle, args=arguments)
            killer.start()
        began = time.monotonic()
        digest = function(run, ["--scheduler", address])
        seconds = time.monotonic() - began
        if kill_at:
            killer.join()
            assert processes[1].wait() == -signal.SIGKILL
        with Client(address) as client:
            return seconds, digest, client.run_on_scheduler(finished)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("extracted", type=Path, help="run whose codes are extracted")
    p.add_argument("evaluated", type=Path, help="run whose codes are evaluated")
    args = p.parse_args()
    for function, run in ((extract, args.extracted), (evaluate, args.evaluated)):
        run = run.resolve()
        began = time.monotonic()
        expected = function(run, [])
        alone = time.monotonic() - began
        print(f"{function.__name__} {run.name}")
        print(f"  {'one process':28}{alone:8.1f} s  {expected}")

        def row(label, seconds, digest, remark="", expected=expected):
            print(f"  {label:28}{seconds:8.1f} s  {digest}  same: {digest == expected}{remark}")

        one, digest, _ = measure(function, run, 1)
        row("1 worker", one, digest)
        two, digest, partitions = measure(function, run, 2)
        row("2 workers", two, digest, f", {one / two:.2f} times one worker's speed")
        middle = partitions // 2
        killed, digest, _ = measure(function, run, 2, middle)
        remark = f", killed after {middle} of {partitions} partitions"
        row("2, one killed in the middle", killed, digest, remark)


if __name__ == "__main__":
    main()
