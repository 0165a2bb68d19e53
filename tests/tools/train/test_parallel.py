"""Several batches in an update, and what ends a training on several GPUs."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from tools.run import child
from tools.run.nets import nets

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[3]


def prepare(trained, folder, batch, iterations):
    """Make a run's folder with the prototxt of a trained one, another batch and max_iter."""
    (folder / "snapshots").mkdir(parents=True)
    for name in ("train_val.prototxt", "deploy.prototxt", "solver.prototxt"):
        text = (trained / name).read_text().replace(str(trained), str(folder))
        text = re.sub(r"batch_size: \d+", f"batch_size: {batch}", text, count=1)  # of training
        text = re.sub(r"max_iter: \d+", f"max_iter: {iterations}", text)
        (folder / name).write_text(text)
    shutil.copy(trained / "run.json", folder)


def start(folder, solvers):
    """Start the training loop on a folder; its stderr goes to train.log."""
    return child.start(
        "tools.train.loop.train_run",
        threads=2,
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


def test_two_batches_in_an_update_are_one_twice_as_large(trained_run, tmp_path, folder_of):
    for name, batch, solvers in (("one", 32, 1), ("two", 16, 2)):
        prepare(folder_of(trained_run), tmp_path / name, batch, 5)
        assert start(tmp_path / name, solvers).wait(timeout=120) == 0
    one, two = weights(tmp_path / "one", 5), weights(tmp_path / "two", 5)
    before = weights(folder_of(trained_run), 60)
    for name, blobs in one.items():
        for mine, theirs, other in zip(blobs, two[name], before[name], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)
            assert np.abs(mine - other).max() > 1e-3  # the tolerance tells nets apart


def test_batchnorm_keeps_the_statistics_of_every_batch_of_an_update(
    trained_run, tmp_path, folder_of
):
    """Its blobs: the sums of means and variances, each with a share of the ones before, and of 1.

    Two batches in an update count as two, and the same batches in more updates leave the same.
    """
    kept = {}
    for name, iterations, solvers in (("one", 4, 1), ("two", 2, 2)):
        folder = tmp_path / name
        prepare(folder_of(trained_run), folder, 16, iterations)
        net = text_format.Parse(
            (folder / "train_val.prototxt").read_text(), caffe_pb2.NetParameter()
        )
        norm = caffe_pb2.LayerParameter(
            name="norm", type="BatchNorm", bottom=["data"], top=["normed"]
        )
        behind = [layer for layer in net.layer if "data" in layer.bottom]
        for layer in behind:
            layer.bottom[list(layer.bottom).index("data")] = "normed"
        at = list(net.layer).index(behind[0])
        layers = [*net.layer[:at], norm, *net.layer[at:]]
        del net.layer[:]
        net.layer.extend(layers)
        (folder / "train_val.prototxt").write_text(str(net))
        assert start(folder, solvers).wait(timeout=120) == 0
        kept[name] = weights(folder, iterations)["norm"]
    (count,) = kept["two"][2]
    assert count == pytest.approx(sum(0.999**batch for batch in range(4)))
    for one, two in zip(kept["one"], kept["two"], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_training_is_reproducible(trained_run, tmp_path, folder_of):
    for name in ("first", "second"):
        prepare(folder_of(trained_run), tmp_path / name, 16, 5)
        assert start(tmp_path / name, 2).wait(timeout=120) == 0
    models = [tmp_path / n / "snapshots" / "iter_5.caffemodel" for n in ("first", "second")]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_a_solver_process_that_dies_ends_the_training_with_a_sentence():
    code = (
        "import multiprocessing, os, signal, time\n"
        "from tools.train import parallel\n"
        "other = multiprocessing.Process(target=time.sleep, args=(60,))\n"
        "other.start()\n"
        "parallel.guard([other])\n"
        "os.kill(other.pid, signal.SIGKILL)\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child.environment(1),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stderr.endswith("error: a solver process died; the same command resumes\n")


def test_a_solver_process_that_is_gone_already_is_said_too():
    code = (
        "import subprocess, time, types\n"
        "from tools.train import parallel\n"
        "gone = subprocess.Popen(['true'])\n"
        "gone.wait()\n"
        "parallel.guard([types.SimpleNamespace(pid=gone.pid)])\n"
        "time.sleep(30)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child.environment(1),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stderr.endswith("error: a solver process died; the same command resumes\n")
