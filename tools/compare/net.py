"""A released net: a deploy file that ends at the codes, filled with an unchanged caffemodel.

The deploy file is the release's own or ours, in V0, V1 or today's syntax. A second net of one layer
is the classifier, where the caffemodel has it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eval.files import write_atomically
from tools.net import render, weights
from tools.net.trained import forward
from tools.run.failure import Failure
from tools.run.nets import Blobs

if TYPE_CHECKING:
    import caffe

BATCH = 10  # the release's

CLASSIFIER = """
layer {{ name: "activations" type: "Input" top: "activations"
  input_param {{ shape {{ dim: {batch} dim: {bits} }} }} }}
layer {{ name: "{name}" type: "InnerProduct" bottom: "activations" top: "{name}"
  inner_product_param {{ num_output: {classes} }} }}
layer {{ name: "{top}" type: "Softmax" bottom: "{name}" top: "{top}" }}
"""


class ReleasedNet(NamedTuple):
    """The net up to the codes with the names of its input and code blobs, and the classifier's net.

    probabilities: the blob of the classifier's net. classifier: None where the caffemodel has none.
    """

    codes: "caffe.Net"
    data: str
    code: str
    classifier: "caffe.Net | None"
    probabilities: str


def load(
    deploy: Path, caffemodel: Path, *, blobs: Blobs, bits: int, classes: int, folder: Path
) -> ReleasedNet:
    """Return the net of a deploy file and a caffemodel; raise Failure where they do not fit.

    blobs: NET's under METHOD; the deploy file may call its blobs otherwise, but its layer before
    the codes is blobs.latent. classes: their number in the data. folder: the classifier's net is
    written there.
    """
    import caffe

    there = weights.shapes(weights.read(caffemodel))
    render.read(deploy)  # Caffe would end the process where it is no prototxt
    net = caffe.Net(str(deploy), caffe.TEST)
    code = code_blob(net, blobs.latent, deploy)
    size = net.blobs[code].data.shape[1]
    if size != bits:
        raise Failure(f"{deploy} is of {size} bits, and BITS={bits} is asked for")
    size = outputs(there, blobs.latent)
    if size not in (None, bits):
        raise Failure(f"{caffemodel} is of {size} bits, and BITS={bits} is asked for")
    weights.fill(net, caffemodel)
    (data,) = net.inputs
    net.blobs[data].reshape(BATCH, *net.blobs[data].data.shape[1:])
    net.reshape()
    classifier, size = None, outputs(there, blobs.classifier)
    if size is not None:
        if size != classes:
            raise Failure(
                f"{caffemodel} tells {size} classes apart, and the data has {classes}: it was "
                "trained on others"
            )
        path = folder / "classifier.prototxt"
        text = CLASSIFIER.format(
            batch=BATCH,
            bits=bits,
            classes=classes,
            name=blobs.classifier,
            top=blobs.probabilities,
        )
        with write_atomically(path) as partial:
            partial.write_text(text)
        classifier = caffe.Net(str(path), caffe.TEST)
        weights.fill(classifier, caffemodel)
    return ReleasedNet(net, data, code, classifier, blobs.probabilities)


def code_blob(net: "caffe.Net", latent: str, deploy: Path) -> str:
    """Return the blob that the layer named `latent` feeds, through one sigmoid."""
    layers = dict(zip(net._layer_names, net.layers, strict=True))
    if latent not in layers:
        raise Failure(
            f"{deploy} has no layer {latent}, on which this METHOD's codes are (its last ones are "
            f"{', '.join([*layers][-2:])}): it is of another METHOD or NET"
        )
    (top,) = net.top_names[latent]
    fed = [name for name in layers if top in net.bottom_names[name]]
    if [layers[name].type for name in fed] != ["Sigmoid"]:
        raise Failure(
            f"{deploy}: the layer {latent} feeds {', '.join(fed) or 'nothing'}; in a net with "
            "codes it feeds one Sigmoid layer"
        )
    return net.top_names[fed[0]][0]


def outputs(shapes: weights.Shapes, layer: str) -> int | None:
    """Return how many outputs a fully connected layer of a caffemodel has, None without it."""
    return shapes[layer][0][-2] if layer in shapes else None


def activations(net: ReleasedNet, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (latent, probabilities or None) of n inputs, at most one batch; float32, n rows."""
    (latent,) = forward(net.codes, inputs, [net.code], net.data)
    if net.classifier is None:
        return latent, None
    (probabilities,) = forward(net.classifier, latent, [net.probabilities], "activations")
    return latent, probabilities
