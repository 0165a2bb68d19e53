"""Training steps of a net on one random batch: whether it learns, and how fast."""

import tempfile
import time
from pathlib import Path

import caffe
import numpy as np
from google.protobuf import text_format

from tools.run import device
from tools.run.nets import Net
from tools.setup.gpu_layers import CLASSES, METHOD, without_data


def train_steps(net: Net, gpu: int | None, steps: int) -> tuple[float, float, float]:
    """Return (images a second, loss before, loss after) of a net's training on one random batch.

    Runs 2 x steps iterations and times the second half.
    """
    device.activate(gpu)
    caffe.set_random_seed(1)
    names = net.blobs(METHOD)
    with tempfile.TemporaryDirectory() as folder:
        train_val, solver_file = (
            Path(folder) / name for name in ("net.prototxt", "solver.prototxt")
        )
        train_val.write_text(text_format.MessageToString(without_data(net, net.batch)))
        solver_file.write_text(
            f'net: "{train_val}" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 random_seed: 42 '
            f'snapshot_after_train: false snapshot_prefix: "{folder}/s" max_iter: 1000000'
        )
        solver = caffe.get_solver(str(solver_file))
    rng = np.random.default_rng(1)
    blobs = solver.net.blobs
    data, label = blobs[names.data].data, blobs[names.label].data
    data[...] = rng.normal(scale=50, size=data.shape)
    label[...] = rng.integers(0, CLASSES, net.batch)
    solver.step(1)
    before = blobs["classification"].data.item()
    solver.step(max(1, steps - 1))
    blobs["classification"].data.item()  # waits for the device
    began = time.monotonic()
    solver.step(steps)
    after = blobs["classification"].data.item()
    return net.batch * steps / (time.monotonic() - began), before, after
