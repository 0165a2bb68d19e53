"""What an export has from Caffe: the nets' files, and the answers to hold them to.

Runs in a Caffe child process.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.export import graph
from tools.export.files import put, put_array
from tools.export.parity import Layers, Made
from tools.net import preprocess, render, weights
from tools.net.trained import BATCH, TrainedNet
from tools.run.failure import Failure
from tools.run.nets import Blobs, Net

if TYPE_CHECKING:
    from google.protobuf.message import Message


def write(
    *,
    folder: Path,
    caffemodel: Path,
    data: Path,
    net: Net,
    blobs: Blobs,
    gpu: int | None,
    pictures: np.ndarray,
    facts: dict[str, str],
    out: Path,
    page_opset: int | None = None,
) -> Made:
    """Write model.onnx, model.caffemodel, model.prototxt and mean.npy into `out`.

    folder, caffemodel, data, net, blobs, gpu: as TrainedNet takes them. pictures: of the proof,
    uint8 n x C x H x W. facts: metadata of model.onnx. page_opset: of web/model.onnx, the same
    graph for the page's older ONNX Runtime; None where there is no page.
    """
    batch = min(BATCH, len(pictures))  # vgg16's activations take 60 MB a picture
    trained = TrainedNet(folder, caffemodel, data=data, net=net, blobs=blobs, batch=batch, gpu=gpu)
    deploy = render.read(folder / "deploy.prototxt")
    side = trained.caffe_net.blobs[blobs.data].data.shape[-1]
    top, left = ((length - side) // 2 for length in trained.mean.shape[1:])
    mean = np.ascontiguousarray(trained.mean[:, top : top + side, left : left + side])
    preparation = graph.Preparation(mean, trained.scale, (top, left, side))
    params = {
        name: [blob.data for blob in learned] for name, learned in trained.caffe_net.params.items()
    }
    common = {"net": net, "blobs": trained.blobs, "preparation": preparation, "facts": facts}
    model, tensors = graph.to_onnx(deploy, params, **common)
    put(out / "model.onnx", model.SerializeToString())
    if page_opset:
        (out / "web").mkdir()
        older, _ = graph.to_onnx(deploy, params, opset=page_opset, **common)
        put(out / "web" / "model.onnx", older.SerializeToString())
    writers = {layer.top[0]: layer.name for layer in deploy.layer}
    put(out / "model.caffemodel", weights.serialized(trained.caffe_net))
    put(out / "model.prototxt", for_opencv(deploy).encode())
    put_array(out / "mean.npy", mean)
    outputs = trained(pictures, features=True)
    return Made(outputs, trained.blobs, tensors, writers, preparation)


def for_opencv(deploy: "Message") -> str:
    """Return the text of a deploy net as OpenCV's DNN module reads it."""
    for layer in deploy.layer:
        if layer.type == "Clip":
            limits = (layer.clip_param.min, layer.clip_param.max)
            if limits != (0, 6):
                raise Failure(
                    f"the layer {layer.name} clips to {limits}, which OpenCV has no layer for: 0 "
                    "to 6 can be exported"
                )
            layer.type = "ReLU6"
            layer.ClearField("clip_param")
    return str(deploy).replace("round_mode: FLOOR", "ceil_mode: false")


def layer_outputs(
    *,
    folder: Path,
    caffemodel: Path,
    data: Path,
    net: Net,
    blobs: Blobs,
    gpu: int | None,
    picture: np.ndarray,
) -> Layers:
    """Return Caffe's output of each layer for one picture, uint8 C x H x W, in the net's order.

    A layer that writes over its input is read before the next one does so.
    """
    trained = TrainedNet(folder, caffemodel, data=data, net=net, blobs=blobs, batch=1, gpu=gpu)
    caffe_net = trained.caffe_net
    caffe_net.blobs[blobs.data].data[...] = preprocess.transform(
        picture[None], trained.mean, trained.crop, trained.scale
    )
    found = {}
    for number, name in enumerate(caffe_net._layer_names):
        caffe_net._forward(number, number)
        found[name] = caffe_net.blobs[caffe_net.top_names[name][0]].data.copy()
    return found
