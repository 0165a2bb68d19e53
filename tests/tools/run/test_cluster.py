"""Partitions on a real Dask scheduler and real workers: same bytes, and a worker's death."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import h5py
import numpy as np
import psutil
import pytest

from tools.bench import cluster as bench_cluster
from tools.run import cluster
from tools.run.failure import Failure

pytestmark = pytest.mark.slow

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
def recipe():
    """The commands of the recipe in tools/run/README.md, a shell's line each, in its order."""
    text = (REPO / "tools/run/README.md").read_text()
    return re.findall(r"^    ((?:PYTHONPATH|openssl|export).*)$", text, re.M)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def started(folder, port, scheduler, *workers):
    """The processes of a scheduler and some workers, started by the recipe's lines in a folder.

    They have the recipe's own addresses, but for the scheduler's port and for 10.0.0.* in place of
    which this machine is taken.
    """
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    processes = []
    for line in (f"{scheduler} --port {port}", *(f"{worker} --no-nanny" for worker in workers)):
        line = re.sub(r"\b10\.0\.0\.\d\b", "127.0.0.1", line).replace(":8786", f":{port}")
        given = [f"{folder}/{arg}" if arg.endswith(".pem") else arg for arg in shlex.split(line)]
        log = open(folder / "log", "a")  # noqa: SIM115 (the process keeps it)
        command = ["env", *given, "--no-dashboard"]
        processes.append(
            subprocess.Popen(command, env=environment, cwd=REPO, stdout=log, stderr=log)
        )
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory, recipe):
    """(address, worker processes): a scheduler and two workers, started by the recipe's lines."""
    first, worker = [line for line in recipe if "/dask " in line and "tls" not in line]
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nobody there can import it
    from distributed import Client

    with started(tmp_path_factory.mktemp("dask"), port, first, worker, worker) as processes:
        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        yield address, processes[1:]


def test_a_cluster_of_the_recipe_listens_on_this_machine_alone(scheduler):
    """Whoever reaches a scheduler or a worker runs code there."""
    ours = [each for each in psutil.Process().children() if "dask" in " ".join(each.cmdline())]
    assert len(ours) == 3
    listens = {
        each.laddr.ip
        for process in ours
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert listens == {"127.0.0.1"}


def test_a_cluster_by_tls_is_reached_with_its_key_alone(
    tmp_path, recipe, command, options, trained, folder_of
):
    (certificate,) = [line for line in recipe if line.startswith("openssl")]
    subprocess.run(shlex.split(certificate), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    first, worker = [line for line in recipe if "/dask " in line and "tls" in line]
    given = [shlex.split(line)[1].split("=") for line in recipe if line.startswith("export")]
    files = {name: file.replace("$PWD", str(tmp_path)) for name, file in given}
    port = free_port()
    codes = folder_of(trained) / "codes.h5"
    arguments = ("tools.evaluate", codes, "--scheduler", f"tls://127.0.0.1:{port}")
    with started(tmp_path, port, first, worker):
        without = command(*arguments)
        assert without.returncode == 1
        assert without.stderr.startswith("error: SCHEDULER=tls://... is reached with the files")
        wrong = command(*arguments, env=os.environ | dict.fromkeys(files, f"{tmp_path}/no.pem"))
        assert wrong.returncode == 1 and "is of no use: " in wrong.stderr
        plain = command(*arguments[:-1], f"tcp://127.0.0.1:{port}")
        assert plain.returncode == 1 and "does not answer" in plain.stderr
        assert command("tools.codes", *options(trained)).returncode == 0
        done = command(*arguments, env=os.environ | files)
        assert done.returncode == 0, done.stderr
        assert "1 Dask worker(s)" in done.stdout


def test_a_scheduler_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER", 1)
    with (
        pytest.raises(Failure, match="does not answer"),
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
    with pytest.raises(TimeoutError), bench_cluster.running_cluster(1):
        pass
    assert set(psutil.Process().children()) == before


def test_codes_are_the_same_bytes_on_a_cluster(trained, options, command, scheduler, folder_of):
    """With as many threads: two workers of this machine have half of its cores each."""
    address, _ = scheduler
    run, cores = folder_of(trained), os.sched_getaffinity(0)

    def extracted(*words):
        done = command("tools.codes", *options(trained), "--features", 1, *words)
        assert done.returncode == 0, done.stderr
        assert not words or "2 Dask worker(s); dashboard: http" in done.stdout
        with h5py.File(run / "codes.h5") as codes, h5py.File(run / "features.h5") as features:
            return [
                *(codes[g][d][:] for g in ("database", "query") for d in ("latent", "labels")),
                *(features[g]["features"][:] for g in ("database", "query")),
            ]

    pairs = [(extracted(), extracted("--scheduler", address))]
    of_workers = extracted("--workers", 2)
    os.sched_setaffinity(0, sorted(cores)[: max(1, len(cores) // 2)])
    try:
        pairs.append((extracted(), of_workers))
    finally:
        os.sched_setaffinity(0, cores)
    for one, other in pairs:
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_metrics_are_the_same_bytes_on_a_cluster(trained, options, command, scheduler, folder_of):
    address, _ = scheduler
    codes = folder_of(trained) / "codes.h5"
    assert command("tools.codes", *options(trained)).returncode == 0
    contents = []
    for module, words in (
        ("eval", ()),
        ("tools.evaluate", ("--scheduler", address)),
        ("tools.evaluate", ("--workers", 2)),
    ):
        done = command(module, codes, *words)
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
