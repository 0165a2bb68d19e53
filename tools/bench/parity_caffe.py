"""EfficientNet-Lite0 in Caffe with the classifier of its weights; runs in a Caffe child process."""

from pathlib import Path

import numpy as np

from tools.net import render, weights
from tools.net.trained import forward
from tools.run.nets import net_of

CLASSIFIER = """
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 1000 } }
"""


def outputs(folder: Path, caffemodel: Path, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (features, logits), float32 n x 1280 and n x 1000, of inputs n x 3 x S x S, BGR."""
    import caffe

    net = net_of("efficientnet_lite0")
    text = render.render(
        net,
        "finetune",
        data="data",
        folder="run",
        iters=1,
        classes=10,
        batch=1,
        seed=1,
        bits=0,
        **render.loss_weights(),
    )["deploy.prototxt"]
    param = render.parse(text + CLASSIFIER, "deploy.prototxt")
    render.cut_behind(param, net.features)
    param.MergeFrom(render.parse(CLASSIFIER, "deploy.prototxt"))
    param.layer[0].input_param.shape[0].dim[:] = [10, *inputs.shape[1:]]
    path = folder / "parity.prototxt"
    path.write_text(str(param))
    caffe.set_mode_cpu()
    caffe_net = caffe.Net(str(path), caffe.TEST)
    weights.fill(caffe_net, caffemodel)
    found = [
        forward(caffe_net, inputs[at : at + 10], ["pool", "fc"]) for at in range(0, len(inputs), 10)
    ]
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))
