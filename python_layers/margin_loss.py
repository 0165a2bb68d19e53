"""The margin loss of several labels a picture, as a Caffe Python layer.

With t the classifier's scores (N pictures x L labels) and y = 1 where a picture has the label, -1
where not:

    sum max(0, 1 - y t)^p / N

which is the hinge loss of a linear SVM for each label, L1 for p = 1 and L2 for p = 2, summed over
the labels: what the extended SSDH paper (IEEE TPAMI 2018, arXiv 1507.00101) classifies several
labels by, beside the cross-entropy of sigmoids. The mean over the N pictures is Caffe's own way,
that of SigmoidCrossEntropyLoss too.

To use it in any Caffe that was built with WITH_PYTHON_LAYER, put this file on PYTHONPATH and write

    layer {
      name: "classification"  type: "Python"  bottom: "scores"  bottom: "label"
      top: "classification"  loss_weight: 1
      python_param { module: "margin_loss"  layer: "MarginLossLayer"  param_str: "2" }
    }

where label has a 0 or 1 for each score, and param_str is p.
"""

from collections.abc import Sequence
from typing import Any

import caffe
import numpy as np

Blob = Any  # Caffe's, with shape, count, data and diff; its Python class has no public name
Blobs = Sequence[Blob]


class MarginLossLayer(caffe.Layer):
    """sum max(0, 1 - y t)^p / N, 0 or more; p is param_str, 1 or 2.

    bottom[0]: scores t, N x L (further axes are flattened), float32. bottom[1]: labels, as many
    numbers, 0 or 1 each; its gradient is 0. top[0]: the loss, shape (1,). Gradient of a score:
    -p y max(0, 1 - y t)^(p - 1) / N, for p = 1 -y / N where y t < 1, and 0 elsewhere.
    """

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if self.param_str not in ("1", "2"):
            raise ValueError(f"MarginLossLayer takes param_str 1 or 2, but has {self.param_str!r}")
        if len(bottom) != 2:
            raise ValueError(
                f"MarginLossLayer takes two bottoms, scores and labels, but has {len(bottom)}"
            )
        if len(top) != 1:
            raise ValueError(f"MarginLossLayer gives one top, its loss, but has {len(top)}")
        self.shape = None

    def reshape(self, bottom: Blobs, top: Blobs) -> None:  # Caffe calls it before every forward
        scores, labels = tuple(bottom[0].shape), tuple(bottom[1].shape)
        if (scores, labels) != self.shape:
            if len(scores) < 2 or 0 in scores or bottom[0].count != bottom[1].count:
                raise ValueError(
                    "MarginLossLayer needs scores of shape N x L and a label for each, but its "
                    f"bottoms are {scores} and {labels}"
                )
            self.shape = scores, labels
            self.sign = np.empty(scores, np.float32)
            self.lack = np.empty(scores, np.float32)
            top[0].reshape(1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Keep y, and how much each score lacks of its margin: max(0, 1 - y t)."""
        np.multiply(bottom[1].data.reshape(self.sign.shape), 2, out=self.sign)
        self.sign -= 1
        np.multiply(self.sign, bottom[0].data, out=self.lack)
        np.subtract(1, self.lack, out=self.lack)
        np.maximum(self.lack, 0, out=self.lack)
        flat = self.lack.ravel()
        total = flat.sum(dtype=np.float64) if self.param_str == "1" else np.dot(flat, flat)
        top[0].data[0] = total / len(self.lack)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[1]:  # of a net with force_backward
            bottom[1].diff[...] = 0
        if propagate_down[0]:
            scale = -top[0].diff[0] / len(self.lack)
            if self.param_str == "1":
                np.sign(self.lack, out=bottom[0].diff)
            else:
                np.multiply(self.lack, 2, out=bottom[0].diff)
            bottom[0].diff[...] *= self.sign
            bottom[0].diff[...] *= scale
