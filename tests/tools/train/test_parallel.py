"""Several solver processes train as one solver with their batches together does."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from tools.net import render
from tools.run import child
from tools.run.nets import nets
from tools.train import loop

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[3]


def prepare(trained, folder, batch, iterations):
    """Make a run's folder with the prototxt of a trained one, another batch and max_iter."""
    (folder / "snapshots").mkdir(parents=True)
    for name in ("train_val.prototxt", "deploy.prototxt", "solver.prototxt"):
        text = (trained / name).read_text().replace(str(trained), str(folder))
        text = text.replace("batch_size: 64", f"batch_size: {batch}")
        text = re.sub(r"max_iter: \d+", f"max_iter: {iterations}", text)
        (folder / name).write_text(text)
    shutil.copy(trained / "run.json", folder)


def start(folder, solvers):
    """Start the training loop on a folder; its stderr goes to train.log."""
    return child.start(
        "tools.train.loop.train_run",
        threads=1,
        log=folder / "train.log",
        run=folder,
        blobs=nets()["lenet"].blobs("ssdh"),
        gpus=[],
        start=0,
        caffemodel=None,
        pictures=100,
        classes=10,
        solvers=solvers,
    ).process


def weights(folder, iteration):
    model = (folder / "snapshots" / f"iter_{iteration}.caffemodel").read_bytes()
    layers = caffe_pb2.NetParameter.FromString(model).layer
    return {layer.name: [np.array(blob.data) for blob in layer.blobs] for layer in layers}


def test_two_solvers_are_one_solver_with_both_batches(trained_run, tmp_path, folder_of):
    for name, batch, solvers in (("one", 32, 1), ("two", 16, 2)):
        prepare(folder_of(trained_run), tmp_path / name, batch, 5)
        assert start(tmp_path / name, solvers).wait(timeout=120) == 0
    one, two = weights(tmp_path / "one", 5), weights(tmp_path / "two", 5)
    before = weights(folder_of(trained_run), 60)
    for name, blobs in one.items():
        for mine, theirs, other in zip(blobs, two[name], before[name], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)
            assert np.abs(mine - other).max() > 1e-3  # the tolerance tells nets apart


def test_two_batches_in_a_process_are_one_twice_as_large(trained_run, tmp_path, folder_of):
    """What a GPU does for a net that the CPU trains on two processes."""
    for name, batch, batches in (("one", 32, 1), ("two", 16, 2)):
        prepare(folder_of(trained_run), tmp_path / name, batch, 5)
        param = render.parse((tmp_path / name / "solver.prototxt").read_text(), "solver.prototxt")
        solver, _ = loop.make_solver(tmp_path / name, param, batches)
        solver.step(5)
        solver.net.save(str(tmp_path / name / "snapshots" / "iter_5.caffemodel"))
    one, two = weights(tmp_path / "one", 5), weights(tmp_path / "two", 5)
    for name, blobs in one.items():
        for mine, theirs in zip(blobs, two[name], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_two_solvers_are_reproducible(trained_run, tmp_path, folder_of):
    for name in ("first", "second"):
        prepare(folder_of(trained_run), tmp_path / name, 16, 5)
        assert start(tmp_path / name, 2).wait(timeout=120) == 0
    models = [tmp_path / n / "snapshots" / "iter_5.caffemodel" for n in ("first", "second")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_a_solver_process_that_dies_ends_the_training_with_a_sentence(
    trained_run, tmp_path, folder_of
):
    prepare(folder_of(trained_run), tmp_path / "run", 16, 100000)
    process = start(tmp_path / "run", 2)
    until = time.monotonic() + 60
    while not (tmp_path / "run" / "train.csv").exists() or (
        len((tmp_path / "run" / "train.csv").read_text().splitlines()) < 3
    ):
        assert time.monotonic() < until
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (helper,) = [
        int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(helper, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    log = (tmp_path / "run" / "train.log").read_text()
    assert "error: a solver process died" in log


def test_the_other_solvers_wait_for_rank_0_s_last_test_and_snapshot(
    trained_run, tmp_path, folder_of
):
    prepare(folder_of(trained_run), tmp_path / "run", 16, 5)
    solver_file = str(tmp_path / "run" / "solver.prototxt")
    code = (
        "import multiprocessing, sys, time, caffe\n"
        "from tools.train import parallel\n"
        "parallel.take_part(0, 2)\n"
        "solver = caffe.get_solver(sys.argv[1])\n"
        "with parallel.helpers(solver, sys.argv[1], '', 2, []):\n"
        "    solver.step(5)\n"
        "    time.sleep(2)\n"
        "    print(len(multiprocessing.active_children()), 'other')\n"
        "print('iteration', solver.iter)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, solver_file],
        env=child.environment(1),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 other\niteration 5\n"
