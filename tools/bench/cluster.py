"""One worker, two, and two of which one is killed: `python -m tools.bench.cluster RUN_A RUN_B`.

Extracts the codes of RUN_A and evaluates those of RUN_B, both folders of trained runs, on a real
Dask cluster on loopback (tools/bench/loopback.py), and compares every result with the
single-process one.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from tools.bench.loopback import running_cluster
from tools.run import child
from tools.run.data import SPLITS
from tools.run.failure import Failure, carry_out
from tools.run.job import REPO
from tools.run.variables import parse_known

if TYPE_CHECKING:
    from distributed import Scheduler

DATASETS = ("latent", "codes", "probabilities", "labels", "key")  # of each group of codes.h5


def extract(run: Path, scheduler: str) -> str:
    """Extract the codes of a run, on one core; return a digest of every dataset.

    scheduler: a Dask scheduler's address, "" for this machine alone.
    """
    data = re.search(r'source: "(.*)/train_lmdb"', (run / "train_val.prototxt").read_text())[1]
    with open(os.devnull, "w") as bar:
        child.call(
            "tools.codes.extract.extract",
            threads=1,
            log=run / "extract.log",
            keep=(bar.fileno(),),
            variables={"SSDH_TERMINAL": str(bar.fileno()), "GLOG_minloglevel": "2"},
            run=run,
            data=Path(data),
            gpus=[],
            threads_of_net=1,
            features=False,
            scheduler=scheduler,
            workers=0,
        )
    digest = hashlib.sha256()
    with h5py.File(run / "codes.h5") as file:
        for group in SPLITS:
            for name in DATASETS:
                digest.update(file[group][name][:].tobytes())
    return digest.hexdigest()[:16]


def evaluate(run: Path, scheduler: str) -> str:
    """Evaluate the codes of a run; return a digest of metrics.json; scheduler: as of extract."""
    command = [sys.executable, "-m", "tools.evaluate", str(run / "codes.h5")]
    command += ["--scheduler", scheduler]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    return hashlib.sha256((run / "metrics.json").read_bytes()).hexdigest()[:16]


def finished(dask_scheduler: "Scheduler") -> int:
    """Return how many partitions are done; runs on the scheduler."""
    log = dask_scheduler.transition_log
    return sum(entry[1] == "processing" and entry[2] == "memory" for entry in log)


def kill_in_the_middle(address: str, worker: subprocess.Popen, partitions: int) -> None:
    """Kill a worker process with SIGKILL once so many partitions are done and others are not."""
    from distributed import Client

    with Client(address) as client:
        while client.run_on_scheduler(finished) < partitions:
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)


def measure(
    function: Callable[[Path, str], str], run: Path, workers: int, kill_at: int = 0
) -> tuple[float, str, int]:
    """Return (seconds, digest, partitions) on a cluster of some workers.

    kill_at: partitions after which one worker is killed, 0 for none.
    """
    from distributed import Client

    with running_cluster(workers) as (address, processes):
        if kill_at:
            arguments = (address, processes[1], kill_at)
            killer = threading.Thread(target=kill_in_the_middle, args=arguments)
            killer.start()
        began = time.monotonic()
        digest = function(run, address)
        seconds = time.monotonic() - began
        if kill_at:
            killer.join()
            assert processes[1].wait() == -signal.SIGKILL
        with Client(address) as client:
            return seconds, digest, client.run_on_scheduler(finished)


def compare(function: Callable[[Path, str], str], run: Path) -> None:
    """Print the table of one kind of work on a run."""
    began = time.monotonic()
    expected = function(run, "")
    alone = time.monotonic() - began
    print(f"{function.__name__} {run.name}")
    print(f"  {'one process':28}{alone:8.1f} s  {expected}")

    def row(label: str, seconds: float, digest: str, remark: str = "") -> None:
        print(f"  {label:28}{seconds:8.1f} s  {digest}  same: {digest == expected}{remark}")

    one, digest, _ = measure(function, run, 1)
    row("1 worker", one, digest)
    two, digest, partitions = measure(function, run, 2)
    row("2 workers", two, digest, f", {one / two:.2f} times one worker's speed")
    middle = partitions // 2
    killed, digest, _ = measure(function, run, 2, middle)
    remark = f", killed after {middle} of {partitions} partitions"
    row("2, one killed in the middle", killed, digest, remark)


def main() -> None:
    """Print the tables of both runs that the command line names."""
    _, folders = parse_known(__doc__, ())
    if len(folders) != 2:
        raise Failure(
            "two folders of runs are wanted: whose codes are extracted, and whose are evaluated"
        )
    for function, folder in zip((extract, evaluate), folders, strict=True):
        run = Path(folder).resolve()
        if not (run / "codes.h5").is_file():
            raise Failure(f"{run} has no codes.h5: give the folder of a run that make train made")
        compare(function, run)


if __name__ == "__main__":
    carry_out(main)
