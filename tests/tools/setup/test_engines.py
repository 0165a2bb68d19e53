"""Whole nets by both engines of a CPU: oneDNN's layers beside BVLC's own."""

import subprocess
import sys

import numpy as np
import pytest

from tools.run import child, device
from tools.run.job import REPO

pytestmark = pytest.mark.slow

CODE = """
import sys
import caffe
import numpy as np
from google.protobuf import text_format
from tools.run.nets import net_of
from tools.setup.gpu_layers import without_data

name, folder = sys.argv[1:]
param = without_data(net_of(name), 4)
kept = [layer for layer in param.layer if layer.type not in ("Dropout", "Accuracy")]
del param.layer[:]
param.layer.extend(kept)
with open(folder + "/net.prototxt", "w") as file:
    file.write(text_format.MessageToString(param))
net = caffe.Net(folder + "/net.prototxt", caffe.TRAIN)
random = np.random.RandomState(1)
for blobs in net.params.values():
    for blob in blobs:
        matrix = len(blob.data.shape) > 1
        deviation = (2 / np.prod(blob.data.shape[1:])) ** 0.5 if matrix else 0.1
        blob.data[...] = random.normal(0, deviation, blob.data.shape) + (not matrix)
        blob.diff[...] = 0
net.blobs["data"].data[...] = random.normal(0, 1, net.blobs["data"].data.shape)
net.blobs["label"].data[...] = random.randint(0, 10, 4)
for turn in range(2):  # the second time, layers pass on what nobody has looked at
    net.forward()
net.backward()
found = {"blob " + name: blob.data for name, blob in net.blobs.items()}
for name, blobs in net.params.items():
    for number, blob in enumerate(blobs):
        found[f"gradient {name} {number}"] = blob.diff
np.savez(folder + "/found.npz", **found)
"""


@pytest.mark.parametrize("net", ["lenet", "cifar_small", "alexnet"])
def test_nets_are_the_same_by_both_engines(tmp_path, net):
    if device.build().get("engine", "caffe") == "caffe":
        pytest.skip("this Caffe was built without oneDNN")
    found = {}
    for engine in ("caffe", "dnnl"):
        folder = tmp_path / engine
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", CODE, net, str(folder)],
            env=child.environment(2) | {"CAFFE_ENGINE": engine},
            cwd=REPO,
            check=True,
            timeout=120,
        )
        found[engine] = np.load(folder / "found.npz")
    different = 0
    for name, expected in found["caffe"].items():
        actual = found["dnnl"][name]
        # where two numbers are all but equal, a pooling's largest may be the other one, whose
        # gradient goes to another place
        tolerance = 2e-2 if name.startswith("gradient") else 1e-4
        assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max() + 1e-7, name
        different += not np.array_equal(actual, expected)
    assert different  # two engines, not one
