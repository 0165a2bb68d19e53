"""DNNH's piecewise threshold and triplet ranking loss, as Caffe Python layers.

Lai, Pan, Liu and Yan, "Simultaneous Feature Learning and Hash Coding with Deep Neural Networks",
CVPR 2015. With s a bit's sigmoid activation, F a picture's K numbers behind the threshold:

    threshold    0 where s < 1/2 - e, s where |s - 1/2| <= e, 1 where s > 1/2 + e
    triplet      max(0, 1 - ||F - F-||^2 + ||F - F+||^2) of an anchor F, a picture F+ of its class
                 and one F- of another: squared distances for Hamming's, the paper's relaxation

The paper draws triplets from the training pictures. Here they are those of the batch: every anchor
with every other picture of its class and every picture of another class; the loss is their mean, so
that no random number is drawn. A batch without a triplet has a loss and gradients of 0.

To use them in any Caffe that was built with WITH_PYTHON_LAYER, put this file on PYTHONPATH and
write

    layer {
      name: "threshold"  type: "Python"  bottom: "hash_sigmoid"  top: "threshold"
      python_param { module: "dnnh_layers"  layer: "PiecewiseThresholdLayer"  param_str: "0.25" }
    }
    layer {
      name: "triplet"  type: "Python"  bottom: "threshold"  bottom: "label"  top: "triplet"
      python_param { module: "dnnh_layers"  layer: "TripletLossLayer" }
      loss_weight: 1
    }
"""

from collections.abc import Sequence
from typing import Any

import caffe
import numpy as np

Blob = Any  # Caffe's, with shape, count, data and diff; its Python class has no public name
Blobs = Sequence[Blob]


def check_wiring(layer: str, bottom: Blobs, top: Blobs, bottoms: str, tops: str) -> None:
    """Raise ValueError where a layer has not the blobs that are named, with commas between."""
    for blobs, wanted, kind in ((bottom, bottoms, "bottom"), (top, tops, "top")):
        if len(blobs) != len(wanted.split(", ")):
            raise ValueError(f"{layer} needs as its {kind}s: {wanted}; it has {len(blobs)}")


class PiecewiseThresholdLayer(caffe.Layer):
    """0, the activation itself, or 1: below, within and above 1/2 - e to 1/2 + e.

    bottom[0]: activations s, of any shape, float32, in [0, 1]. top[0]: of the same shape. Gradient:
    that of top[0] within, 0 elsewhere. param_str: e, above 0 and up to 1/2, where nothing is cut.
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        name = "PiecewiseThresholdLayer"
        check_wiring(name, bottom, top, "the activations", "the numbers behind the threshold")
        try:
            self.half_width = float(self.param_str)
        except ValueError:
            self.half_width = 0.0
        if not 0 < self.half_width <= 0.5:
            raise ValueError(
                f"{name} needs as its param_str half the width of the part around 1/2 that is left "
                f"as it is, above 0 and up to 0.5, but has {self.param_str!r}"
            )

    def reshape(self, bottom: Blobs, top: Blobs) -> None:  # Caffe calls it before every forward
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        activations = bottom[0].data
        self.within = ~(np.abs(activations - 0.5) > self.half_width)  # what is NaN stays so
        top[0].data[...] = np.where(self.within, activations, activations > 0.5)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            np.multiply(top[0].diff, self.within, out=bottom[0].diff)


class TripletLossLayer(caffe.Layer):
    """The mean of max(0, 1 - ||F - F-||^2 + ||F - F+||^2) over the triplets of a batch.

    bottom[0]: F, N x K (further axes are flattened), float32. bottom[1]: labels, N numbers.
    top[0]: the loss, shape (1,). Gradient of a triplet above 0: 2 (F- - F+) for the anchor,
    2 (F+ - F) for the picture of its class, 2 (F - F-) for the other; each over the number of
    triplets.
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        check_wiring("TripletLossLayer", bottom, top, "the pictures' numbers, labels", "the loss")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:  # Caffe calls it before every forward
        if bottom[0].shape[0] != bottom[1].count:
            raise ValueError(
                f"TripletLossLayer has {bottom[0].shape[0]} pictures and {bottom[1].count} labels"
            )
        top[0].reshape(1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        labels = bottom[1].data.ravel()
        self.codes = bottom[0].data.reshape(len(labels), -1).astype(np.float64)
        squares = np.square(self.codes).sum(axis=1)
        distances = squares[:, None] + squares - 2 * self.codes @ self.codes.T
        same = labels[:, None] == labels
        # of each pair, how often it pulls together less how often it pushes apart
        self.pulls = np.zeros(distances.shape)
        self.triplets, total = 0, 0.0
        for anchor, of_class in enumerate(same):
            positive = np.flatnonzero(of_class)
            positive = positive[positive != anchor]
            negative = np.flatnonzero(~of_class)
            terms = 1 + distances[anchor, positive][:, None] - distances[anchor, negative]
            above = terms > 0
            self.triplets += terms.size
            total += np.maximum(terms, 0).sum()  # NaN where one is
            self.pulls[anchor, positive] = above.sum(axis=1)
            self.pulls[anchor, negative] = -above.sum(axis=0)
        top[0].data[0] = total / max(self.triplets, 1)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            both = self.pulls + self.pulls.T  # each pair's distance moves both of its pictures
            gradient = both.sum(axis=1)[:, None] * self.codes - both @ self.codes
            scale = 2 * top[0].diff[0] / max(self.triplets, 1)
            bottom[0].diff[...] = (scale * gradient).reshape(bottom[0].diff.shape)
