"""Partitions on a real Dask scheduler and real workers: same bytes, and a worker's death."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import h5py
import numpy as np
import psutil
import pytest

from tools.bench.loopback import running_cluster
from tools.run import cluster
from tools.run.failure import Failure

REPO = Path(__file__).resolve().parents[3]


def slow_square(number, folder):
    """Return number^2 after a while; note this process's id."""
    time.sleep(0.2)
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    return number**2


def die(folder):
    """Kill the process that runs this."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """(address, worker processes): a scheduler and two workers, started by a README's commands."""
    texts = [path.read_text() for path in (REPO / "README.md", *REPO.glob("tools/*/README.md"))]
    pattern = re.compile(r"^    (.*\.venv/bin/dask (?:scheduler|worker).*)$", re.M)
    by_hand = dict.fromkeys(line for text in texts for line in pattern.findall(text))
    scheduler, worker = map(shlex.split, by_hand)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    worker[worker.index("tcp://host:8786")] = address
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    folder = tmp_path_factory.mktemp("dask")

    def start(*arguments):
        log = open(folder / "log", "a")  # noqa: SIM115 (the process keeps it)
        command = ["env", *arguments, "--no-dashboard"]
        return subprocess.Popen(command, env=environment, cwd=REPO, stdout=log, stderr=log)

    processes = [
        start(*scheduler, "--host", "127.0.0.1", "--port", str(port)),
        *(start(*worker, "--no-nanny") for _ in range(2)),
    ]
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nobody there can import it
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
    yield address, processes[1:]
    for process in processes:
        process.kill()
        process.wait()


def test_a_scheduler_that_is_not_there_is_said(monkeypatch):
    from distributed import Client

    def impatient(address, timeout):
        assert timeout == 10
        return Client(address, timeout=1)

    monkeypatch.setattr("distributed.Client", impatient)
    with (
        pytest.raises(Failure, match="the Dask scheduler tcp://127.0.0.1:1 does not answer"),
        cluster.partitions("tcp://127.0.0.1:1", 0),
    ):
        pass


@pytest.mark.parametrize("address", ["bad://x", "host", "tcp://host:port"])
def test_what_is_no_address_is_said(command, address):
    done = command("tools.evaluate", "codes.h5", "--scheduler", address)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: SCHEDULER={address} is no address of a Dask scheduler")
    assert "Traceback" not in done.stderr


def test_a_scheduler_and_workers_of_one_s_own_exclude_each_other(scheduler, command):
    """The scheduler and its workers live on: only a cluster of ours is shut down."""
    address, workers = scheduler
    done = command("tools.evaluate", "codes.h5", "--scheduler", address, "--workers", 2)
    assert done.returncode == 1
    assert done.stderr.startswith("error: SCHEDULER= has workers of its own")
    assert [worker.poll() for worker in workers] == [None, None]


def test_workers_are_a_number(command):
    done = command("tools.evaluate", "codes.h5", "--workers", "abc")
    assert done.returncode == 1
    assert done.stderr == "error: WORKERS=abc is not a whole number\n"


def test_the_bench_s_cluster_that_does_not_come_up_leaves_no_process(monkeypatch):
    def late(*_, **__):
        raise TimeoutError

    monkeypatch.setattr("distributed.Client.wait_for_workers", late)
    before = set(psutil.Process().children())
    with pytest.raises(TimeoutError), running_cluster(1):
        pass
    assert set(psutil.Process().children()) == before


def test_codes_are_the_same_bytes_on_a_cluster(trained, options, command, scheduler, folder_of):
    address, _ = scheduler
    run = folder_of(trained)
    contents = []
    for more in ((), ("--scheduler", address), ("--workers", 2)):
        done = command("tools.codes", *options(trained), "--features", 1, *more)
        assert done.returncode == 0, done.stderr
        with h5py.File(run / "codes.h5") as codes, h5py.File(run / "features.h5") as features:
            contents.append(
                [codes[g][d][:] for g in ("database", "query") for d in ("latent", "labels")]
                + [features[g]["features"][:] for g in ("database", "query")]
            )
        if more:
            assert "2 Dask worker(s); dashboard: http" in done.stdout
    for other in contents[1:]:
        for mine, theirs in zip(contents[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_metrics_are_the_same_bytes_on_a_cluster(trained, options, command, scheduler, folder_of):
    address, _ = scheduler
    codes = folder_of(trained) / "codes.h5"
    assert command("tools.codes", *options(trained)).returncode == 0
    contents = []
    for module, more in (
        ("eval", ()),
        ("tools.evaluate", ("--scheduler", address)),
        ("tools.evaluate", ("--workers", 2)),
    ):
        done = command(module, codes, *more)
        assert done.returncode == 0, done.stderr
        contents.append(codes.with_name("metrics.json").read_bytes())
        codes.with_name("metrics.json").unlink()
    assert contents[1] == contents[0]
    assert contents[2] == contents[0]


def test_a_worker_that_dies_costs_its_partition_s_retry(scheduler, tmp_path):
    """SIGKILL in the middle: every result arrives, in order."""
    address, workers = scheduler
    with cluster.partitions(address, 0) as run:
        results = run(slow_square, [(number, tmp_path) for number in range(30)])
        got = []
        while len({path.name.split("-")[1] for path in tmp_path.iterdir()}) < 2:
            got.append(next(results))
        assert len(got) < 25  # both work, and the end is not near
        workers[0].kill()
        got += list(results)
    assert got == [number**2 for number in range(30)]


def test_a_partition_that_kills_every_worker_is_said(tmp_path):
    with (
        pytest.raises(Failure, match="killed every worker that tried it"),
        cluster.partitions("", 2) as run,
    ):
        list(run(die, [(tmp_path,)]))
