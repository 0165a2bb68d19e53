"""Caffe's layers in ONNX's operators: a function a type, and the pooling that both mean."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tools.run.failure import Failure

if TYPE_CHECKING:
    from caffe.proto.caffe_pb2 import LayerParameter
    from google.protobuf.message import Message


class Tensor(NamedTuple):
    """A value in the graph: its name, and its shape without the axis of the batch."""

    name: str
    shape: tuple[int, ...]


class Graph:
    """What a graph is made of so far."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add a constant; return its name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator with one output; return the output's name."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output


def add_layer(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    """Add a layer of a deploy net; return its output, called <name>/top.

    params: the layer's learned blobs, float32. Raise Failure for what ONNX is not written for.
    """
    if layer.type not in LAYERS:
        raise Failure(
            f"the layer {layer.name} is of the type {layer.type}, which cannot be exported; what "
            f"can be: {', '.join(sorted(LAYERS))}"
        )
    if len(layer.top) != 1 or (len(bottoms) != 1 and layer.type != "Eltwise"):
        refuse(layer, f"{len(bottoms)} bottoms and {len(layer.top)} tops")
    return LAYERS[layer.type](graph, layer, params, bottoms)


def refuse(layer: "LayerParameter", what: str) -> None:
    """Raise the Failure of a layer whose settings are not written as ONNX."""
    raise Failure(
        f"the layer {layer.name} ({layer.type}) cannot be exported: it has {what}; "
        "tools/export/layers.py says what is written"
    )


def pair(param: "Message", name: str, default: int) -> tuple[int, int]:
    """Return (height, width) of a setting that a prototxt gives as one number, as two, or by axis.

    name: "kernel_size", "stride", "pad" or "dilation".
    """
    by_axis = f"{name.removesuffix('_size')}_h"
    if by_axis in param.DESCRIPTOR.fields_by_name and param.HasField(by_axis):
        return getattr(param, by_axis), getattr(param, by_axis[:-1] + "w")
    value = getattr(param, name)
    values = [value] if isinstance(value, int) else list(value) or [default]
    return (values * 2)[0], (values * 2)[1]


def _convolution(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    param, (bottom,) = layer.convolution_param, bottoms
    if param.axis != 1 or len(bottom.shape) != 3:
        refuse(layer, "other axes than channels, height and width")
    kernel, stride = pair(param, "kernel_size", 0), pair(param, "stride", 1)
    pad, dilation = pair(param, "pad", 0), pair(param, "dilation", 1)
    output = graph.node(
        "Conv",
        [bottom.name, *_learned(graph, layer, params)],
        f"{layer.name}/top",
        kernel_shape=kernel,
        strides=stride,
        pads=pad * 2,
        dilations=dilation,
        group=param.group,
    )
    sides = (
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(bottom.shape[1:], kernel, stride, pad, dilation, strict=True)
    )
    return Tensor(output, (param.num_output, *sides))


def _inner_product(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    param, (bottom,) = layer.inner_product_param, bottoms
    if param.axis != 1:
        refuse(layer, f"axis: {param.axis}")
    name = f"{layer.name}/top"
    flat = flattened(graph, bottom, f"{name}/flat").name
    learned = _learned(graph, layer, params)
    output = graph.node("Gemm", [flat, *learned], name, transB=int(not param.transpose))
    return Tensor(output, (param.num_output,))


def flattened(graph: Graph, tensor: Tensor, name: str) -> Tensor:
    """Return a tensor with one axis behind the batch, the tensor itself where it has no more."""
    if len(tensor.shape) == 1:
        return tensor
    return Tensor(graph.node("Flatten", [tensor.name], name), (math.prod(tensor.shape),))


def _learned(graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray]) -> list[str]:
    """Add weights and, where the layer has one, bias; return their names."""
    names = ("weights", "bias")[: len(params)]
    return [
        graph.constant(f"{layer.name}/{name}", values)
        for name, values in zip(names, params, strict=True)
    ]


def _pooling(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    """Pool as PoolingLayer does, by explicit pads: no two versions of ceil_mode agree.

    Source: PoolingLayer::Reshape and Forward_cpu in caffe/src/caffe/layers/pooling_layer.cpp.
    """
    param, (bottom,), name = layer.pooling_param, bottoms, f"{layer.name}/top"
    channels, *sides = bottom.shape
    if param.pool not in (param.MAX, param.AVE):
        refuse(layer, "stochastic pooling")
    average = param.pool == param.AVE
    if param.global_pooling:
        kind = "GlobalAveragePool" if average else "GlobalMaxPool"
        return Tensor(graph.node(kind, [bottom.name], name), (channels, 1, 1))
    kernel, stride, pad = (
        pair(param, setting, default)
        for setting, default in (("kernel_size", 0), ("stride", 1), ("pad", 0))
    )
    rounded = math.ceil if param.round_mode == param.CEIL else math.floor
    pooled, behind, counts = [], [], []
    for side, k, s, p in zip(sides, kernel, stride, pad, strict=True):
        size = rounded((side + 2 * p - k) / s) + 1
        if any(pad) and (size - 1) * s >= side + p:  # the last window starts in the picture
            size -= 1
        pooled.append(size)
        behind.append(max(0, (size - 1) * s + k - side - p))
        # an average is over what of the window lies in the picture and its padding of p
        counts.append([min(at * s + k, side + 2 * p) - at * s for at in range(size)])
    window = {"kernel_shape": kernel, "strides": stride, "pads": [*pad, *behind]}
    if not average:
        output = graph.node("MaxPool", [bottom.name], name, **window)
    elif not any(pad):
        output = graph.node("AveragePool", [bottom.name], name, **window)
    else:
        shares = math.prod(kernel) / np.outer(*counts).astype(np.float32)
        whole = (shares == 1).all()
        output = graph.node(
            "AveragePool",
            [bottom.name],
            name if whole else f"{name}/whole",
            count_include_pad=1,
            **window,
        )
        if not whole:
            share = graph.constant(f"{layer.name}/shares", shares)
            output = graph.node("Mul", [output, share], name)
    return Tensor(output, (channels, *pooled))


def _lrn(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    """Normalize across channels: both divide alpha by the size of the neighbourhood."""
    param = layer.lrn_param
    if param.norm_region != param.ACROSS_CHANNELS:
        refuse(layer, "norm_region: WITHIN_CHANNEL")
    return _same(
        *(graph, "LRN", layer, bottoms),
        size=param.local_size,
        alpha=param.alpha,
        beta=param.beta,
        bias=param.k,
    )


def _batch_norm(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    param, channels = layer.batch_norm_param, bottoms[0].shape[0]
    if param.HasField("use_global_stats") and not param.use_global_stats:
        refuse(layer, "use_global_stats: false, so that a picture depends on its batch")
    mean, variance, total = params
    share = 1 / total[0] if total[0] else np.float32(0)
    values = {
        "scale": np.ones(channels, np.float32),
        "bias": np.zeros(channels, np.float32),
        "mean": mean * share,
        "variance": variance * share,
    }
    constants = [graph.constant(f"{layer.name}/{name}", each) for name, each in values.items()]
    return _same(graph, "BatchNormalization", layer, bottoms, *constants, epsilon=param.eps)


def _scale(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    param, (bottom,), name = layer.scale_param, bottoms, f"{layer.name}/top"
    if param.axis != 1 or param.num_axes != 1:
        refuse(layer, "another axis than the channels")
    shape = (-1, *(1 for _ in bottom.shape[1:]))
    shaped = [each.reshape(shape) for each in params]
    weights, *bias = _learned(graph, layer, shaped)
    output = graph.node("Mul", [bottom.name, weights], f"{name}/product" if bias else name)
    if bias:
        output = graph.node("Add", [output, *bias], name)
    return Tensor(output, bottom.shape)


def _relu(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    slope = layer.relu_param.negative_slope
    if slope:
        return _same(graph, "LeakyRelu", layer, bottoms, alpha=slope)
    return _same(graph, "Relu", layer, bottoms)


def _clip(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    limits = [
        graph.constant(f"{layer.name}/{name}", np.float32(getattr(layer.clip_param, name)))
        for name in ("min", "max")
    ]
    return _same(graph, "Clip", layer, bottoms, *limits)


def _eltwise(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    param = layer.eltwise_param
    if param.operation != param.SUM or any(each != 1 for each in param.coeff):
        refuse(layer, "another operation than a plain sum")
    names = [each.name for each in bottoms]
    return Tensor(graph.node("Sum", names, f"{layer.name}/top"), bottoms[0].shape)


def _sigmoid(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    return _same(graph, "Sigmoid", layer, bottoms)


def _softmax(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    if layer.softmax_param.axis != 1:
        refuse(layer, f"axis: {layer.softmax_param.axis}")
    return _same(graph, "Softmax", layer, bottoms, axis=1)


def _reshape(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    param, (bottom,) = layer.reshape_param, bottoms
    first, *dims = param.shape.dim
    if first != 0 or param.axis != 0 or param.num_axes != -1 or 0 in dims:
        refuse(layer, f"dims {', '.join(map(str, param.shape.dim))}; the batch's, 0, comes first")
    known = math.prod(dim for dim in dims if dim != -1)
    shape = tuple(math.prod(bottom.shape) // known if dim == -1 else dim for dim in dims)
    wanted = graph.constant(f"{layer.name}/shape", np.array([-1, *shape]))
    return Tensor(graph.node("Reshape", [bottom.name, wanted], f"{layer.name}/top"), shape)


def _flatten(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    param, (bottom,), name = layer.flatten_param, bottoms, f"{layer.name}/top"
    if param.axis != 1 or param.end_axis != -1:
        refuse(layer, "other axes than all behind the batch's")
    return Tensor(graph.node("Flatten", [bottom.name], name), (math.prod(bottom.shape),))


def _dropout(
    graph: Graph, layer: "LayerParameter", params: Sequence[np.ndarray], bottoms: Sequence[Tensor]
) -> Tensor:
    return bottoms[0]  # what it is in the TEST phase


def _same(
    graph: Graph,
    kind: str,
    layer: "LayerParameter",
    bottoms: Sequence[Tensor],
    *constants: str,
    **attributes: Any,
) -> Tensor:
    """Add an operator that leaves the shape as it is; return its output."""
    inputs = [bottoms[0].name, *constants]
    return Tensor(graph.node(kind, inputs, f"{layer.name}/top", **attributes), bottoms[0].shape)


LAYERS: dict[str, Callable[..., Tensor]] = {
    "BatchNorm": _batch_norm,
    "Clip": _clip,
    "Convolution": _convolution,
    "Dropout": _dropout,
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "Pooling": _pooling,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
}
