"""EfficientNet-Lite0's conversion, beside PyTorch's and TensorFlow's rules written out in NumPy."""

import re

import caffe
import numpy as np
import pytest

from tools.net import efficientnet
from tools.run.job import REPO


def same(pictures, kernels, stride):
    """A depthwise convolution with TensorFlow's "same" padding, by a plain loop.

    pictures: N x C x S x S. kernels: C x 1 x K x K.
    """
    side, size = pictures.shape[2], kernels.shape[2]
    out = -(-side // stride)
    pad = max((out - 1) * stride + size - side, 0)
    padded = np.pad(pictures, ((0, 0), (0, 0), *[(pad // 2, pad - pad // 2)] * 2))
    found = np.zeros((*pictures.shape[:2], out, out))
    for y in range(out):
        for x in range(out):
            top, left = y * stride, x * stride
            window = padded[:, :, top : top + size, left : left + size]
            found[:, :, y, x] = (window * kernels[:, 0]).sum((2, 3))
    return found


@pytest.mark.parametrize("side", [8, 10, 16])
@pytest.mark.parametrize(("part", "size"), [("block1_depthwise", 3), ("block3_depthwise", 5)])
def test_a_halving_convolution_and_its_norm(tmp_path, part, size, side):
    """As the net's own layer: one pass of a larger kernel with a bias, where PyTorch has three."""
    random, channels = np.random.default_rng(side), 6
    draw = random.standard_normal
    tensors = {"c.weight": draw((channels, 1, size, size)), "n.bias": draw(channels)}
    tensors |= {"n.weight": draw(channels), "n.running_mean": draw(channels)}
    tensors |= {"n.running_var": draw(channels) ** 2}
    pictures = draw((2, channels, side, side))
    mean, variance = (
        tensors[f"n.{name}"][:, None, None] for name in ("running_mean", "running_var")
    )
    gamma, beta = (tensors[f"n.{name}"][:, None, None] for name in ("weight", "bias"))
    wanted = same(pictures, tensors["c.weight"], 2)
    wanted = (wanted - mean) / np.sqrt(variance + 0.001) * gamma + beta

    weight, bias = efficientnet.folded(tensors, "c", "n")
    weight = efficientnet.for_caffe(part, weight)
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape '
        f"{{ dim: 2 dim: {channels} dim: {side} dim: {side} }} }} }}\n"
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { '
        f"num_output: {channels} kernel_size: {size + 1} pad: {size // 2} stride: 2 "
        f"group: {channels} }} }}"
    )
    net = caffe.Net(str(path), caffe.TEST)
    net.params["conv"][0].data[...], net.params["conv"][1].data[...] = weight, bias
    net.blobs["data"].data[...] = pictures
    found = net.forward()["conv"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_the_first_convolution_takes_bgr():
    weight = np.arange(2 * 3 * 9.0).reshape(2, 3, 3, 3)
    turned = efficientnet.for_caffe("stem", weight)
    assert turned.shape == (2, 3, 4, 4) and not turned[:, :, 0].any()
    np.testing.assert_array_equal(turned[:, :, 1:, 1:], weight[:, ::-1])


@pytest.mark.parametrize("file", ["deploy.prototxt", "train_val.prototxt"])
def test_the_layers_that_halve_are_the_converter_s(file):
    text = (REPO / "prototxt" / "efficientnet_lite0" / file).read_text()
    layers = re.split(r"^layer ", text, flags=re.MULTILINE)[1:]
    halving = [layer for layer in layers if "stride: 2" in layer]
    assert tuple(re.search('name: "(.*?)"', layer)[1] for layer in halving) == efficientnet.HALVING
    assert all(re.search("kernel_size: [46] ", layer) for layer in halving)  # one more than 3 or 5
