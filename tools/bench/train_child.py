"""How much a net has to compute; runs in a Caffe child process."""

from pathlib import Path

import numpy as np


def work(prototxt: Path) -> float:
    """Return the GFLOP of the convolutions and products of a training iteration.

    A multiplication with its addition counts as two. The gradient of the weights takes as many as
    the forward pass, where there are some that learn, and so does that of the inputs, where an
    earlier layer learns.
    """
    import caffe

    from tools.net import render

    net = caffe.Net(str(prototxt), caffe.TRAIN)
    learns, total = False, 0
    for layer in render.read(prototxt).layer:
        if layer.type not in ("Convolution", "InnerProduct") or layer.name not in net.params:
            continue
        weights = net.params[layer.name][0].data.shape
        forward = 2 * net.blobs[layer.top[0]].data.size * np.prod(weights[1:])
        inputs, learns_here = learns, not layer.param or layer.param[0].lr_mult > 0
        learns = learns or learns_here
        total += forward * (1 + inputs + learns_here)
    return float(total) / 1e9
