"""What several test folders share: the repository, quiet logs, commands, and a small data set."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import (  # noqa: F401
    pytest_collectreport,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from tools.faults.forks import Forks

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "python_layers"))
os.environ.setdefault("GLOG_minloglevel", "2")  # before the first import of caffe
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # threads that spin take the other worker's core
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else hundreds of processes compile it all anew
sys.dont_write_bytecode = False
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # a make started by a test is nobody's sub-make
    os.environ.pop(name, None)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it


def pytest_addoption(parser):
    parser.addoption(
        "--all-bad-inputs", action="store_true", help="the whole table of tests/bad_inputs.py"
    )


def pytest_collection_modifyitems(items):
    """Mark what trains a net, or needs one that was trained here, as slow; such files come first.

    A long file that comes last would have one worker, while the others have nothing to do.
    """
    for item in items:
        if {"trained_run", "make"} & set(item.fixturenames):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """Run `python -m module arguments` in the repository; return the finished process.

    It is forked from a Python that has the libraries already, whose import takes a second; one that
    gets a library before all others, or a limit on its process, is started as ever.
    """
    folder = tmp_path_factory.mktemp("command")
    stdout, stderr = folder / "stdout", folder / "stderr"

    with Forks(os.environ) as forks:

        def run(*words, env=os.environ, **options):
            words = [str(word) for word in words]
            if options or "LD_PRELOAD" in env:
                return subprocess.run(
                    [sys.executable, "-m", *words],
                    **options,
                    env=env,
                    cwd=REPO,
                    capture_output=True,
                    text=True,
                )
            code = forks.start(words, dict(env), stderr, stdout).wait()
            return subprocess.CompletedProcess(words, code, stdout.read_text(), stderr.read_text())

        yield run


@pytest.fixture(scope="session")
def data_root(tmp_path_factory, command):
    """A DATA_ROOT that holds scikit-learn's digits for lenet, made by the real data stage."""
    root = tmp_path_factory.mktemp("data")
    made = command(
        *("data_prep", "digits", "--root", root, "--side", 28, "--channels", 1, "--mean", "train")
    )
    assert made.returncode == 0, made.stderr
    return root


def folder_of_job(job):
    """The folder of the run of a job's options."""
    return Path(job["--runs"], job["--run"])


@pytest.fixture(scope="session")
def folder_of():
    """The function that gives the folder of the run of a job's options."""
    return folder_of_job


def small_job(data_root, run):
    """The options of a small job on digits; run: its folder."""
    return {
        "--dataset": "digits",
        "--net": "lenet",
        "--bits": 16,
        "--runs": run.parent,
        "--run": run.name,
        "--data-root": data_root,
        "--device": "cpu",
        "--iters": 60,
        "--batch": 25,
    }


@pytest.fixture
def job(data_root, tmp_path):
    """The options of a small job on digits that has not been trained."""
    return small_job(data_root, tmp_path / "run")


@pytest.fixture(scope="session")
def trained_run(data_root, tmp_path_factory, command, options):
    """The options of a job on digits that was trained once; tests get copies of it."""
    job = small_job(data_root, tmp_path_factory.mktemp("trained") / "run")
    done = command("tools.train", *options(job))
    assert done.returncode == 0, done.stderr
    return job


@pytest.fixture
def trained(trained_run, tmp_path):
    """The options of a job on digits whose run is trained, in a folder of the test's own."""
    shutil.copytree(folder_of_job(trained_run), tmp_path / "run")
    return trained_run | {"--runs": tmp_path}


@pytest.fixture(scope="session")
def options():
    """Flatten a dict of options to a list of arguments."""
    return lambda job: [word for pair in job.items() for word in pair]
