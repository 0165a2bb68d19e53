"""The two loss terms that SSDH adds to classification, as Caffe Python layers.

With a the sigmoid activations of the latent layer (N pictures x K bits) and m their row means:

    binarization   -sum (a - 1/2)^2 / (2 N K)    pushes every activation towards 0 or 1
    balance         sum (m - 1/2)^2 / (2 N)      lets half of the bits of each picture fire

These are the terms of the SSDH release. The paper (arXiv 1507.00101) writes them without the 1/2
and the 1/N, so a loss_weight of 1 here is not the paper's beta or gamma of 1.

To use them in any Caffe that was built with WITH_PYTHON_LAYER, put this file on PYTHONPATH and
write

    layer {
      name: "binarization"  type: "Python"  bottom: "latent_sigmoid"  top: "binarization"
      python_param { module: "ssdh_losses"  layer: "BinarizationLossLayer" }
      loss_weight: 1
    }
"""

from collections.abc import Sequence
from typing import Any

import caffe
import numpy as np

Blob = Any  # Caffe's, with shape, count, data and diff; its Python class has no public name
Blobs = Sequence[Blob]


def check_blobs(layer: str, bottom: Blobs, top: Blobs) -> None:
    """Raise ValueError where the layer is not wired as one activation blob -> one loss."""
    if len(bottom) != 1:
        raise ValueError(
            f"{layer} takes one bottom, the sigmoid activations (N x K), but has {len(bottom)}"
        )
    if len(top) != 1:
        raise ValueError(f"{layer} gives one top, its loss, but has {len(top)}")


def check_activations(layer: str, bottom: Blob) -> tuple[int, int]:
    """Return (N, K) of the activation blob; raise ValueError where it has no picture or no bit."""
    shape = tuple(bottom.shape)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"{layer} needs activations of shape N x K, but its bottom is {shape}")
    return shape[0], bottom.count // shape[0]


class BinarizationLossLayer(caffe.Layer):
    """-sum (a - 1/2)^2 / (2 N K), in [-1/8, 0]; at -1/8 every unit is saturated.

    bottom[0]: activations a, N x K (further axes are flattened), float32, in [0, 1].
    top[0]: the loss, shape (1,). Gradient: -(a - 1/2) / (N K) for each activation.
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        check_blobs("BinarizationLossLayer", bottom, top)
        self.shape = None

    def reshape(self, bottom: Blobs, top: Blobs) -> None:  # Caffe calls it before every forward
        shape = tuple(bottom[0].shape)
        if shape != self.shape:
            check_activations("BinarizationLossLayer", bottom[0])
            self.shape = shape
            self.deviation = np.empty(shape, np.float32)
            top[0].reshape(1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        np.subtract(bottom[0].data, 0.5, out=self.deviation)
        flat = self.deviation.ravel()
        top[0].data[0] = -np.dot(flat, flat) / (2 * flat.size)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            scale = -top[0].diff[0] / self.deviation.size
            np.multiply(self.deviation, scale, out=bottom[0].diff)


class BalanceLossLayer(caffe.Layer):
    """sum (m - 1/2)^2 / (2 N) with m the mean activation of each picture, in [0, 1/8].

    bottom[0]: activations a, N x K (further axes are flattened), float32, in [0, 1].
    top[0]: the loss, shape (1,). Gradient: (m - 1/2) / (N K) for each bit of the row.
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        check_blobs("BalanceLossLayer", bottom, top)
        self.shape = None

    def reshape(self, bottom: Blobs, top: Blobs) -> None:  # Caffe calls it before every forward
        shape = tuple(bottom[0].shape)
        if shape != self.shape:
            self.pictures, self.bits = check_activations("BalanceLossLayer", bottom[0])
            self.shape = shape
            self.deviation = np.empty((self.pictures, 1), np.float32)
            self.gradient = np.empty((self.pictures, 1), np.float32)
            top[0].reshape(1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        activations = bottom[0].data.reshape(self.pictures, self.bits)
        np.mean(activations, axis=1, keepdims=True, out=self.deviation)
        self.deviation -= 0.5
        flat = self.deviation.ravel()
        top[0].data[0] = np.dot(flat, flat) / (2 * self.pictures)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            scale = top[0].diff[0] / (self.pictures * self.bits)
            np.multiply(self.deviation, scale, out=self.gradient)
            bottom[0].diff.reshape(self.pictures, self.bits)[...] = self.gradient
