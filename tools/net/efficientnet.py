"""EfficientNet-Lite0's tensors as PyTorch has them, to the caffemodel of NET=efficientnet_lite0.

What differs between the two, and is made equal here:

- BatchNorm, whose statistics stand still, is folded into the convolution before it:
  w' = w * gamma / sqrt(variance + 0.001), bias = beta - mean * gamma / sqrt(variance + 0.001).
- "Same" padding as TensorFlow has it puts one zero more behind a picture than before it where a
  convolution halves a map of even size. Caffe pads both ends alike: so these kernels get a first
  row and column of zeros, which read the zeros that are too many in front.
- The first convolution takes BGR instead of RGB.

The classifier of ImageNet's 1,000 classes is kept, as the layer `fc`, which no net here has.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tools.run.failure import Failure

EPSILON = 0.001
BLOCKS = 16
PARTS = (("expand", "expand_conv", "bn0"), ("depthwise", "depthwise_conv", "bn1"))
PARTS = (*PARTS, ("project", "project_conv", "bn2"))
HALVING = ("stem", *(f"block{n}_depthwise" for n in (1, 3, 5, 11)))


def convolutions(tensors: dict[str, np.ndarray]) -> Iterator[tuple[str, str, str]]:
    """Yield each layer's name, and PyTorch's of its convolution and its BatchNorm, in order."""
    yield "stem", "_conv_stem", "_bn0"
    for n in range(BLOCKS):
        for part, convolution, norm in PARTS:
            if (n, part) != (0, "expand"):  # the first block has none
                yield f"block{n}_{part}", f"_blocks.{n}._{convolution}", f"_blocks.{n}._{norm}"
    yield "top", "_conv_head", "_bn1"


def caffemodel(tensors: dict[str, np.ndarray], path: Path | str) -> bytes:
    """Return the serialized NetParameter; the same tensors give the same bytes.

    tensors: by PyTorch's names, as torch_file.read_tensors has them. path: what a Failure calls
    them, which is raised where one is missing.
    """
    from caffe.proto import caffe_pb2

    model = caffe_pb2.NetParameter(name="EfficientNet-Lite0")
    try:
        for name, convolution, norm in convolutions(tensors):
            weight, bias = folded(tensors, convolution, norm)
            add_layer(model, name, "Convolution", (for_caffe(name, weight), bias))
        add_layer(model, "fc", "InnerProduct", (tensors["_fc.weight"], tensors["_fc.bias"]))
    except KeyError as missing:
        raise Failure(
            f"{path} has no tensor {missing.args[0]}: it is not EfficientNet-Lite0's"
        ) from None
    return model.SerializeToString()


def folded(
    tensors: dict[str, np.ndarray], convolution: str, norm: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias, float64, of a convolution with the BatchNorm behind it folded in."""
    weight = tensors[f"{convolution}.weight"].astype(np.float64)
    names = ("weight", "bias", "running_mean", "running_var")
    gamma, beta, mean, variance = (tensors[f"{norm}.{name}"].astype(np.float64) for name in names)
    scale = gamma / np.sqrt(variance + EPSILON)
    return weight * scale[:, None, None, None], beta - mean * scale


def for_caffe(name: str, weight: np.ndarray) -> np.ndarray:
    """Return a layer's weight, outputs x inputs x K x K, with its first row and column, and BGR."""
    if name == "stem":
        weight = weight[:, ::-1]
    if name in HALVING:
        weight = np.pad(weight, ((0, 0), (0, 0), (1, 0), (1, 0)))
    return weight


def add_layer(model: object, name: str, kind: str, blobs: tuple[np.ndarray, ...]) -> None:
    """Add a layer to a NetParameter, its numbers rounded to float32."""
    layer = model.layer.add(name=name, type=kind)
    for numbers in blobs:
        blob = layer.blobs.add()
        blob.shape.dim.extend(numbers.shape)
        blob.data.extend(numbers.astype(np.float32).ravel().tolist())
