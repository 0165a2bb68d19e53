"""HEAD=1: the trained head put onto its pretrained net; runs in a Caffe child process."""

from pathlib import Path

import numpy as np

from eval.files import write_atomically
from tools.net import render, weights
from tools.train import snapshots

EPSILON = 1e-5  # BatchNorm's own


def publish(*, run: Path, caffemodel: Path, n: int) -> None:
    """Write the run's model.caffemodel: a pretrained net, with the head of snapshot n on it."""
    import caffe

    caffe.set_mode_cpu()
    net = caffe.Net(str(run / "deploy.prototxt"), caffe.TEST)
    print(weights.load_for_training(net, caffemodel), flush=True)
    trained = weights.read(run / "snapshots" / f"iter_{n}.caffemodel")
    arrays = {
        name: [np.array(blob.data, np.float32).reshape(blob.shape.dim) for blob in blobs]
        for name, blobs in weights.layers_of(trained)
        if blobs
    }
    scale = arrays.pop("scale")
    first = [
        layer.name
        for layer in render.read(run / render.HEAD).layer
        if render.SCALED in layer.bottom
    ]
    for name, (weight, bias) in arrays.items():
        if name in first:
            weight, bias = unscaled(weight, bias, *scale)
        net.params[name][0].data[...] = weight
        net.params[name][1].data[...] = bias
    model = weights.serialized(net)
    with write_atomically(run / "model.caffemodel") as partial:
        partial.write_bytes(model)
    snapshots.finish(run, n)


def unscaled(
    weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias for features as they are, of those for scaled ones.

    weight: float32 (outputs, F). mean, variance, factor: BatchNorm's blobs.
    """
    mean, variance = (each.astype(np.float64) / factor for each in (mean, variance))
    weight = weight / np.sqrt(variance + EPSILON)
    return weight, bias - weight @ mean
