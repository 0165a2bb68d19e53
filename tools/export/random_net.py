"""A net with random weights, to see how it is exported; runs in a Caffe child process."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.net import weights
from tools.run.nets import Blobs

if TYPE_CHECKING:
    import caffe

SEED = 7
SPREAD = 2  # standard deviation of what the sigmoids, or the classes, get


def write(
    *, folder: Path, out: Path, blobs: Blobs, inputs: np.ndarray, pretrained: Path | None
) -> None:
    """Write a caffemodel for the deploy.prototxt of a folder.

    inputs: prepared pictures, float32 n x C x S x S, by which the layer on the features is scaled:
    a sigmoid whose input is in the hundreds, as He's weights make it, has no gradient, so that no
    training leads there, and turns rounding into differences. pretrained: a caffemodel, whose
    layers take the place of random ones.
    """
    import caffe

    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    fill(net)
    if pretrained:
        weights.load_for_training(net, pretrained)
    net.blobs[blobs.data].reshape(*inputs.shape)
    net.blobs[blobs.data].data[...] = inputs
    net.forward()
    first = blobs.latent or blobs.classifier
    spread = net.blobs[net.top_names[first][0]].data.std()
    net.params[first][0].data[...] *= SPREAD / spread
    net.save(str(out))


def fill(net: "caffe.Net") -> None:
    """Give a net's layers random weights, which keep activations apart.

    They are of He's normal distribution, statistics of batches as if learnt.
    """
    random = np.random.default_rng(SEED)
    kinds = {name: layer.type for name, layer in zip(net._layer_names, net.layers, strict=True)}
    for name, params in net.params.items():
        first, *others = (param.data for param in params)
        if kinds[name] == "BatchNorm":
            variance, total = others
            first[...] = random.normal(0, 60, first.shape)
            variance[...] = random.uniform(3000, 9000, variance.shape)
            total[...] = 3
            continue
        scale = kinds[name] == "Scale"
        first[...] = 1.5 if scale else random.normal(0, np.sqrt(2 / first[0].size), first.shape)
        for bias in others:
            bias[...] = random.normal(0, 1 if scale else 0.1, bias.shape)
