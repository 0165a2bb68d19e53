"""A net as one ONNX graph: uint8 pictures in, activations, packed codes, features, classes out.

    picture        uint8, N x side x side x channels, BGR (or grey), as OpenCV reads and resizes one
    latent         float32, N x K: the latent layer's activations, in 0 to 1
    code           uint8, N x ceil(K/8): the bits latent > 1/2, the first one highest, as
                   numpy.packbits packs them and codes.h5 keeps them
    features       float32, N x F: the layer below the latent one
    probabilities  float32, N x C: of the classes

N is free. A net without codes has neither latent nor code, one without a classifier no
probabilities. Caffe's TEST phase is inside: mean image, centre crop, scale.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, checker, defs, helper

from tools.export.layers import Graph, Tensor, add_layer, flattened, refuse
from tools.run.nets import Blobs, Net

if TYPE_CHECKING:
    from google.protobuf.message import Message

OPSET = defs.onnx_opset_version()
IR_OF_OPSET = {15: 8}  # for the page's reader; else what the onnx package writes
THRESHOLD = np.float32(0.5)


class Preparation(NamedTuple):
    """What a picture goes through before the net: (picture - mean) * scale, cropped at its centre.

    mean: float32, C x S x S, cropped already. crop: (top, left, side) of the picture.
    """

    mean: np.ndarray
    scale: float
    crop: tuple[int, int, int]


def to_onnx(
    deploy: "Message",
    params: dict[str, list[np.ndarray]],
    *,
    net: Net,
    blobs: Blobs,
    preparation: Preparation,
    facts: dict[str, str],
    opset: int = OPSET,
) -> tuple[ModelProto, dict[str, str]]:
    """Return the model, and {layer of the deploy net: the name of its output in the graph}.

    deploy: a NetParameter in today's syntax that begins with an Input layer. params: the learned
    blobs by layer. facts: metadata of the model. Raise Failure, naming it, for a layer that cannot
    be written.
    """
    graph, tops, outputs_of = Graph(), {}, {}
    for layer in deploy.layer:
        if layer.type == "Input":
            if list(layer.top) != [blobs.data]:
                refuse(layer, f"the output {', '.join(layer.top)}, and {blobs.data} is wanted")
            tops[blobs.data] = _prepared(graph, net, preparation)
            continue
        bottoms = [tops[name] for name in layer.bottom]
        made = add_layer(graph, layer, params.get(layer.name, []), bottoms)
        tops[layer.top[0]], outputs_of[layer.name] = made, made.name
    outputs, renamed = _outputs(graph, tops, blobs)
    for node in graph.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    picture = ("batch", net.side, net.side, net.channels)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            deploy.name or net.name,
            [helper.make_tensor_value_info("picture", TensorProto.UINT8, picture)],
            outputs,
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        producer_name="ssdh",
        **({"ir_version": IR_OF_OPSET[opset]} if opset in IR_OF_OPSET else {}),
    )
    helper.set_model_props(model, facts)
    checker.check_model(model)
    return model, {layer: renamed.get(name, name) for layer, name in outputs_of.items()}


def _prepared(graph: Graph, net: Net, preparation: Preparation) -> Tensor:
    """Add what Caffe's data transformer does in the TEST phase; return the net's input."""
    mean, scale, (top, left, side) = preparation
    output = graph.node("Transpose", ["picture"], "planes", perm=(0, 3, 1, 2))
    if side != net.side:
        corners = {"starts": [top, left], "ends": [top + side, left + side], "axes": [2, 3]}
        named = [graph.constant(f"crop/{name}", np.array(at)) for name, at in corners.items()]
        output = graph.node("Slice", [output, *named], "cropped")
    output = graph.node("Cast", [output], "pixels", to=TensorProto.FLOAT)
    output = graph.node("Sub", [output, graph.constant("mean", mean)], "centred")
    if scale != 1:
        output = graph.node("Mul", [output, graph.constant("scale", np.float32(scale))], "scaled")
    return Tensor(output, (net.channels, side, side))


def _outputs(graph: Graph, tops: dict[str, Tensor], blobs: Blobs) -> tuple[list, dict[str, str]]:
    """Add the graph's outputs; return their descriptions, and the new names of what they are."""
    found, renamed = [], {}
    wanted = {
        "latent": blobs.code,
        "features": blobs.features,
        "probabilities": blobs.probabilities,
    }
    for name, blob in wanted.items():
        if blob not in tops:
            continue
        tensor = flattened(graph, tops[blob], name)
        if tensor.name != name:
            renamed[tensor.name] = name
        shape = ("batch", *tensor.shape)
        found.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    if blobs.code is not None:
        (bits,) = tops[blobs.code].shape
        size = -(-bits // 8)
        places = np.zeros((bits, size), np.float32)  # a bit's value in its byte
        places[np.arange(bits), np.arange(bits) // 8] = 128 >> np.arange(bits) % 8
        over = graph.node("Greater", ["latent", graph.constant("threshold", THRESHOLD)], "bits")
        ones = graph.node("Cast", [over], "ones", to=TensorProto.FLOAT)
        packed = graph.node("MatMul", [ones, graph.constant("places", places)], "packed")
        graph.node("Cast", [packed], "code", to=TensorProto.UINT8)
        found.insert(1, helper.make_tensor_value_info("code", TensorProto.UINT8, ("batch", size)))
    return found, renamed
