"""A net's outputs and gradients by the engine of this process (CAFFE_ENGINE)."""

from pathlib import Path

import caffe
import numpy as np
from google.protobuf import text_format

from tools.net import render
from tools.run.nets import net_of
from tools.setup.gpu_layers import without_data

SKIPPED = ("Dropout", "Accuracy")  # drawn at random, and without a gradient


def compute(name: str, batch: int, moved: float, out: Path) -> None:
    """Write every blob and every parameter's gradient of a net of prototxt/ to an npz file.

    name: the net's. batch: pictures, of normal noise, float32. moved: each value of them is changed
    by this part of itself, up or down. Parameters are drawn too, by one seed. Keys: "blob <name>"
    and "gradient <layer> <number>".
    """
    param = without_data(net_of(name), batch)
    kept = [layer for layer in param.layer if layer.type not in SKIPPED]
    del param.layer[:]
    param.layer.extend(kept)
    file = out.with_suffix(".prototxt")
    file.write_text(text_format.MessageToString(param))
    render.read(file)  # a sentence where it cannot be parsed
    net = caffe.Net(str(file), caffe.TRAIN)
    random = np.random.default_rng(1)
    for blobs in net.params.values():
        for blob in blobs:
            matrix = blob.data.ndim > 1
            deviation = (2 / np.prod(blob.data.shape[1:])) ** 0.5 if matrix else 0.1
            blob.data[...] = random.normal(0, deviation, blob.data.shape) + (not matrix)
            blob.diff[...] = 0
    data = random.normal(0, 1, net.blobs["data"].data.shape)
    net.blobs["data"].data[...] = data * (1 + moved * random.choice([-1, 1], data.shape))
    net.blobs["label"].data[...] = random.integers(0, 10, batch)
    for _ in range(2):  # the second time, layers pass on what nobody has looked at
        net.forward()
    net.backward()
    found = {f"blob {name}": blob.data for name, blob in net.blobs.items()}
    for layer, blobs in net.params.items():
        for number, blob in enumerate(blobs):
            found[f"gradient {layer} {number}"] = blob.diff
    np.savez(out, **found)
