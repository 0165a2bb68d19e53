"""A server over two small runs of digits, 16 and 32 bits, as `make serve` starts it."""

import asyncio
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import httpx
import psutil
import pytest

from data_prep.lmdb_reader import open_rows
from eval.codes import read_codes
from tools.search.index import create

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def runs(extracted_run, tmp_path_factory, command, options, folder_of):
    """The jobs of two runs in one folder, {name: job}; the first has features as well."""
    folder = tmp_path_factory.mktemp("served")
    jobs = {}
    for name, bits in (("digits-16", 16), ("digits-32", 32)):
        jobs[name] = extracted_run | {"--runs": folder, "--run": name, "--bits": bits}
    shutil.copytree(folder_of(extracted_run), folder / "digits-16")
    for stage in ("tools.train", "tools.codes"):
        done = command(stage, *options(jobs["digits-32"]))
        assert done.returncode == 0, done.stderr
    for job in jobs.values():
        create(folder_of(job))
    return jobs


@pytest.fixture(scope="session")
def codes(runs, folder_of):
    """What codes.h5 of the 16-bit run says."""
    return read_codes(folder_of(runs["digits-16"]) / "codes.h5")


@contextmanager
def serving(job, options, log):
    """Start the server; yield its address, process and log, a namespace. It ends by SIGTERM."""
    with open(log, "w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.serve", *map(str, options(job)), "--port", "0"],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        for line in process.stdout:
            if found := re.search(r"the page is (http://\S+?),", line):
                break
        else:
            raise AssertionError(log.read_text())
        yield SimpleNamespace(url=found[1], process=process, log=log)
    finally:
        process.terminate()
        assert process.wait(timeout=40) == 0, log.read_text()


@pytest.fixture(scope="session")
def server(runs, options, tmp_path_factory):
    """The server that the tests share; whatever they do to it, it has to live on."""
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(runs["digits-16"], options, log) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    """An HTTP client of the server."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def caffe_process(server):
    """Return the process that Caffe runs in, now."""

    def find():
        children = psutil.Process(server.process.pid).children()
        return next(child for child in children if "tools.run.child_main" in child.cmdline())

    return find


@pytest.fixture(scope="session")
def digit(data_root, tmp_path_factory):
    """Write a database picture, by its row, to a PNG file; return its path."""
    folder = tmp_path_factory.mktemp("digits")

    def write(row):
        path = folder / f"{row}.png"
        with open_rows(data_root / "digits" / "28x1" / "train_lmdb") as (_, read):
            cv2.imwrite(str(path), read([row])[0][0].transpose(1, 2, 0))
        return path

    return write


@pytest.fixture
def finish():
    """Run a coroutine to its end, in a thread: the browser's driver has this one's event loop."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda coroutine: thread.submit(asyncio.run, coroutine).result()
