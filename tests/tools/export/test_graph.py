"""Every net and layer type, from Caffe to ONNX Runtime and OpenCV: the same answers."""

import re

import caffe
import numpy as np
import onnx
import pytest

from data_prep.mean_image import to_binaryproto
from eval.tables import METHODS
from tools.export import caffe_side, parity, quantize, random_net
from tools.net import render
from tools.net.trained import TrainedNet
from tools.run.failure import Failure
from tools.run.nets import Blobs, nets
from tools.search.answer import bits_of

NETS = nets()
TRAINED = [(name, method) for name, net in NETS.items() for method in net.methods]
BITS = 12  # not whole bytes
SLICES = BITS * METHODS["dnnh"].values["slice"]  # features, as many for each bit
DATA = 'transform_param { mean_file: "" %s } include { phase: TEST }'
TRAIN_VAL = 'layer { name: "data" type: "Data" top: "data" top: "label" %s }'
EVERY_LAYER = """
name: "every layer"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 25 dim: 25 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 4 stride: 2 pad: 1 bias_term: false } }
layer { name: "norm1" type: "BatchNorm" bottom: "conv1" top: "conv1"
  batch_norm_param { use_global_stats: true eps: 0.001 } }
layer { name: "conv1_scale" type: "Scale" bottom: "conv1" top: "conv1"
  scale_param { bias_term: true } }
layer { name: "clip1" type: "Clip" bottom: "conv1" top: "conv1" clip_param { min: 0 max: 6 } }
layer { name: "depthwise" type: "Convolution" bottom: "conv1" top: "depthwise"
  convolution_param { num_output: 8 group: 8 kernel_h: 3 kernel_w: 5 pad_h: 1 pad_w: 2 } }
layer { name: "sum" type: "Eltwise" bottom: "depthwise" bottom: "conv1" top: "sum"
  eltwise_param { operation: SUM } }
layer { name: "leaky" type: "ReLU" bottom: "sum" top: "leaky"
  relu_param { negative_slope: 0.1 } }
layer { name: "lrn" type: "LRN" bottom: "leaky" top: "lrn"
  lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 } }
layer { name: "grouped" type: "Convolution" bottom: "lrn" top: "grouped"
  convolution_param { num_output: 6 group: 2 kernel_size: 3 dilation: 2 pad: 2 } }
%s
layer { name: "global" type: "Pooling" bottom: "pooled" top: "global"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "dropped" type: "Dropout" bottom: "global" top: "global" }
layer { name: "mapped" type: "Reshape" bottom: "global" top: "mapped"
  reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 1 } } }
layer { name: "flat" type: "Flatten" bottom: "mapped" top: "flat" }
layer { name: "latent" type: "InnerProduct" bottom: "flat" top: "latent"
  inner_product_param { num_output: 12 } }
layer { name: "code" type: "Sigmoid" bottom: "latent" top: "code" }
layer { name: "classes" type: "InnerProduct" bottom: "code" top: "classes"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "classes" top: "prob" }
"""
POOLING = (
    'layer { name: "pooled" type: "Pooling" bottom: "grouped" top: "pooled" pooling_param { %s } }'
)
OWN = {"latent": "latent", "code": "code", "classifier": "classes", "features": "global"}


@pytest.fixture
def made(tmp_path):
    """A function that exports a net with random weights; it returns what prove() takes and more."""

    def export(deploy, net, blobs, transform):
        random = np.random.default_rng(7)
        (tmp_path / "deploy.prototxt").write_text(deploy)
        (tmp_path / "train_val.prototxt").write_text(TRAIN_VAL % transform)
        mean = random.uniform(90, 140, (net.channels, net.side, net.side)).astype(np.float32)
        (tmp_path / "mean.binaryproto").write_bytes(to_binaryproto(mean))
        filled = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
        random_net.fill(filled)
        filled.save(str(tmp_path / "given.caffemodel"))
        pictures = random.integers(0, 256, (3, net.channels, net.side, net.side)).astype(np.uint8)
        of_net = {
            "folder": tmp_path,
            "caffemodel": tmp_path / "given.caffemodel",
            "data": tmp_path,
            "net": net,
            "blobs": blobs,
            "gpu": None,
        }
        out = tmp_path / "out"
        out.mkdir()
        written = caffe_side.write(**of_net, pictures=pictures, facts={"net": net.name}, out=out)

        def layers(picture):
            return caffe_side.layer_outputs(**of_net, picture=picture)

        return out, pictures, written, layers

    return export


def narrower(found):
    width = int(found[2])
    return f"{found[1]}: {width if width in (BITS, SLICES) else width // 8}"


@pytest.mark.parametrize(("name", "method"), TRAINED)
def test_every_net_and_method_gives_caffe_s_answers(made, name, method):
    """Those of large pictures an eighth as wide: their width is not the point, and takes time."""
    net = NETS[name]
    files = render.render(
        *(net, method),
        data="data",
        folder="run",
        iters=1,
        batch=1,
        seed=1,
        classes=5,
        bits=BITS,
        **render.loss_weights(),
    )
    deploy = files["deploy.prototxt"]
    if net.side > 100:
        deploy = re.sub(r"(num_output|group): (\d{2,})", narrower, deploy)
    train_val = render.parse(files["train_val.prototxt"], "train_val.prototxt")
    transform = [layer for layer in train_val.layer if layer.type == "Data"][1].transform_param
    out, pictures, written, layers = made(
        *(deploy, net, net.blobs(method)),
        f"transform_param {{ {transform} }} include {{ phase: TEST }}",
    )
    found = parity.prove(out, pictures, written, layers, 2)
    assert set(found) == {"ONNX Runtime", "OpenCV DNN"}
    for figures in found.values():
        assert parity.is_same(figures) and figures["features"] < 1e-5
        assert figures.get("bits", 0) == (3 * BITS if net.blobs(method).code else 0)
    model = onnx.load(out / "model.onnx")
    outputs = [each.name for each in model.graph.output]
    hashing = ["latent", "code"] if net.blobs(method).code else []
    classes = ["probabilities"] if net.blobs(method).classifier else []
    assert outputs == [*hashing, "features", *classes]
    assert [each.name for each in model.graph.input] == ["picture"]


@pytest.mark.parametrize(
    "pooling",
    [
        "pool: MAX kernel_size: 3 stride: 2",  # 12 to 6: the last window is cut
        "pool: MAX kernel_size: 3 stride: 2 pad: 1",
        "pool: MAX kernel_size: 2 stride: 3 pad: 1",  # a last window in the padding is clipped
        "pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR",
        "pool: AVE kernel_size: 3 stride: 2",
        "pool: AVE kernel_size: 3 stride: 2 pad: 1",  # 12 + 2: a share of the window is outside
        "pool: AVE kernel_size: 5 stride: 4 pad: 2",
        "pool: AVE kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 2 pad_h: 1 pad_w: 0",
    ],
)
def test_every_layer_type_and_pooling_s_edges(made, pooling):
    net = NETS["cifar_small"]
    blobs = Blobs(**OWN)
    transform = "transform_param { crop_size: 25 scale: 0.5 } include { phase: TEST }"
    deploy = EVERY_LAYER % (POOLING % pooling)
    out, pictures, written, layers = made(deploy, net, blobs, transform)
    found = parity.prove(out, pictures, written, layers, 1)
    caffe_s = layers(pictures[0])
    for other in (
        parity.onnx_layers(out / "model.onnx", written.tensors, pictures[0]),
        parity.opencv_layers(
            out, written.tensors, parity.prepared(pictures[:1], written.preparation)
        ),
    ):
        assert {"depthwise", "sum", "lrn", "grouped", "pooled"} <= set(other)
        assert parity.first_departure(caffe_s, other) is None
    assert all(parity.is_same(figures) for figures in found.values())


def test_the_code_is_packed_as_codes_h5_packs_it(made, tmp_path):
    blobs = Blobs(**OWN)
    transform = "transform_param { crop_size: 25 } include { phase: TEST }"
    deploy = EVERY_LAYER % (POOLING % "pool: MAX kernel_size: 2 stride: 2")
    out, pictures, written, _ = made(deploy, NETS["cifar_small"], blobs, transform)
    session = parity.open_session(out / "model.onnx", 1)
    rows = pictures.transpose(0, 2, 3, 1)
    code, latent = session.run(["code", "latent"], {"picture": rows})
    assert code.dtype == np.uint8 and code.tolist() == written.outputs.codes.tolist()
    assert bits_of(code[0], 12) == "".join(str(int(bit)) for bit in latent[0] > 0.5)
    (alone,) = session.run(["latent"], {"picture": rows[:1]})  # any number of pictures
    assert np.abs(alone - latent[:1]).max() < 1e-6


def test_every_layer_type_goes_into_8_bits(made):
    """A layer is called as the quantizer calls the scale of another one's output: conv1_scale."""
    deploy = EVERY_LAYER % (POOLING % "pool: AVE kernel_size: 3 stride: 2 pad: 1")
    transform = "transform_param { crop_size: 25 } include { phase: TEST }"
    out, pictures, written, _ = made(deploy, NETS["cifar_small"], Blobs(**OWN), transform)
    quantize.quantize(out / "model.onnx", out / "int8.onnx", pictures)
    session = parity.open_session(out / "int8.onnx", 1)
    found = parity.run_session(session, pictures, features=True)
    assert 0 < parity.difference(written.outputs.features, found.features) < 0.1
    assert {"QuantizeLinear", "Conv"} <= {
        node.op_type for node in onnx.load(out / "int8.onnx").graph.node
    }


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (' type: "TanH"', "the layer pooled is of the type TanH, which cannot be exported"),
        (' type: "LRN" lrn_param { norm_region: WITHIN_CHANNEL }', "norm_region: WITHIN_CHANNEL"),
        (' type: "Softmax" softmax_param { axis: 2 }', "it has axis: 2"),
        (' type: "Clip" clip_param { min: -1 max: 1 }', "which OpenCV has no layer for"),
        (' type: "Reshape" reshape_param { shape { dim: -1 dim: 6 dim: 1 dim: 1 } }', "dims -1, 6"),
        (' type: "Flatten" flatten_param { axis: 2 end_axis: 2 }', "other axes than all behind"),
    ],
)
def test_a_layer_that_cannot_be_exported_is_named(made, layer, said):
    deploy = EVERY_LAYER % f'layer {{ name: "pooled" bottom: "grouped" top: "pooled" {layer} }}'
    transform = "transform_param { crop_size: 25 } include { phase: TEST }"
    with pytest.raises(Failure) as failed:
        made(deploy, NETS["cifar_small"], Blobs(**OWN), transform)
    assert "the layer pooled" in str(failed.value) and said in str(failed.value)


def test_the_first_layer_that_departs_is_named(made):
    """Where a constant in the graph is another one, or a weight of the caffemodel."""
    deploy = EVERY_LAYER % (POOLING % "pool: MAX kernel_size: 2 stride: 2")
    transform = "transform_param { crop_size: 25 } include { phase: TEST }"
    out, pictures, written, layers = made(deploy, NETS["cifar_small"], Blobs(**OWN), transform)
    model = onnx.load(out / "model.onnx")
    (lrn,) = (node for node in model.graph.node if node.op_type == "LRN")
    next(each for each in lrn.attribute if each.name == "size").i = 5
    onnx.save(model, out / "model.onnx")
    with pytest.raises(Failure, match="ONNX Runtime does not .* first layer that departs is lrn,"):
        parity.prove(out, pictures, written, layers, 1)


def test_bits_count_by_how_far_they_are_from_a_half():
    """One at 1/2 is nobody's fault; one far from it fails, however few there are."""

    def outputs(*latent):
        return parity.Outputs(np.array([latent], np.float32), None, np.ones((1, 2), np.float32))

    near = parity.compare(outputs(0.50003, 0.9), outputs(0.49998, 0.9))
    assert near["bits_differ"] == 1 and near["bits_wrong"] == 0 and parity.is_same(near)
    far = parity.compare(outputs(0.5002, 0.9), outputs(0.4999, 0.9))
    assert far["bits_wrong"] == 1 and not parity.is_same(far)
    other = parity.compare(outputs(0.7, 0.9), outputs(0.7003, 0.9))
    assert other["bits_differ"] == 0 and not parity.is_same(other)
    assert not parity.is_same(parity.compare(outputs(0.7), outputs(np.nan)))


def test_prepared_is_what_caffe_s_transformer_does(made):
    transform = "transform_param { crop_size: 25 scale: 0.25 } include { phase: TEST }"
    deploy = EVERY_LAYER % (POOLING % "pool: MAX kernel_size: 2 stride: 2")
    out, pictures, written, _ = made(deploy, NETS["cifar_small"], Blobs(**OWN), transform)
    trained = TrainedNet(
        out.parent,
        out.parent / "given.caffemodel",
        data=out.parent,
        net=NETS["cifar_small"],
        blobs=Blobs(**OWN),
        batch=3,
        gpu=None,
    )
    trained(pictures)
    given = trained.caffe_net.blobs["data"].data
    assert (parity.prepared(pictures, written.preparation) == given).all()
