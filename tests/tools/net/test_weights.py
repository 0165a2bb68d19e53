"""Caffemodels are checked before Caffe sees them; a wrong one stops with its name and why."""

import copy
import hashlib
import socket

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from tools.net import pretrained, weights
from tools.run.failure import Failure

NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 6 }} }} }}
layer {{ name: "{first}" type: "InnerProduct" bottom: "data" top: "h"
  inner_product_param {{ num_output: 4 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "latent" type: "InnerProduct" bottom: "h" top: "latent"
  inner_product_param {{ num_output: {bits} weight_filler {{ type: "xavier" }} }} }}
"""


def make_net(tmp_path, bits=8, first="fc7"):
    path = tmp_path / f"net-{bits}-{first}.prototxt"
    path.write_text(NET.format(bits=bits, first=first))
    return caffe.Net(str(path), caffe.TEST)


@pytest.fixture
def saved(tmp_path):
    """(net, path): a net and its caffemodel."""
    net = make_net(tmp_path)
    path = tmp_path / "some.caffemodel"
    net.save(str(path))
    return net, path


def test_what_was_saved_fills_the_net(tmp_path, saved):
    net, path = saved
    weights.fill(make_net(tmp_path), path)
    other = make_net(tmp_path)
    sentence = weights.load_for_training(other, path)
    assert "starting fresh: none" in sentence
    for name, blobs in net.params.items():
        np.testing.assert_array_equal(other.params[name][0].data, blobs[0].data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>sign in</html>", "is a web page"),
        (b"\x0a\x05ab", "is not a whole caffemodel"),
        (caffe_pb2.NetParameter(name="x").SerializeToString(), "has no weights in any layer"),
    ],
)
def test_files_that_are_no_caffemodels(tmp_path, content, reason):
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    with pytest.raises(Failure, match=rf"bad\.caffemodel {reason}"):
        weights.read(path)


def test_a_truncated_one(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Failure, match=r"some\.caffemodel is not a whole caffemodel"):
        weights.read(path)


def test_another_code_length_does_not_fill_the_net_but_can_start_one(tmp_path, saved):
    _, path = saved
    wider = make_net(tmp_path, bits=16)
    with pytest.raises(Failure, match="layer latent has the shapes"):
        weights.fill(wider, path)
    before = wider.params["latent"][0].data.copy()
    sentence = weights.load_for_training(wider, path)
    assert "starting fresh: latent" in sentence
    np.testing.assert_array_equal(wider.params["latent"][0].data, before)
    assert caffe_pb2.NetParameter.FromString(path.read_bytes()).layer[-1].blobs  # file untouched


def test_a_layer_that_should_match_is_missing(tmp_path, saved):
    _, path = saved
    renamed = make_net(tmp_path, first="fc7_new")
    with pytest.raises(Failure, match="has no layer named fc7_new"):
        weights.load_for_training(renamed, path)
    with pytest.raises(Failure, match=r"has no weights for the layer\(s\) fc7_new"):
        weights.fill(renamed, path)


def test_legacy_syntax_and_shapes_are_read(tmp_path, saved):
    """V1 layers with 4-D blobs (1 x 1 x M x N), as old caffemodels have them."""
    net, _ = saved
    model = caffe_pb2.NetParameter()
    for name in ("fc7", "latent"):
        layer = model.layers.add(name=name, type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
        for blob in net.params[name]:
            shape = (1,) * (4 - blob.data.ndim) + blob.data.shape
            proto = layer.blobs.add(
                num=shape[0], channels=shape[1], height=shape[2], width=shape[3]
            )
            proto.data.extend(blob.data.ravel().tolist())
    path = tmp_path / "old.caffemodel"
    path.write_bytes(model.SerializeToString())
    other = make_net(tmp_path)
    weights.fill(other, path)
    weights.load_for_training(other, path)
    for name, blobs in net.params.items():
        np.testing.assert_array_equal(other.params[name][0].data, blobs[0].data)


def test_a_path_that_is_not_there():
    with pytest.raises(Failure, match=r"WEIGHTS=nowhere\.caffemodel: there is no such file"):
        pretrained.find("nowhere.caffemodel")


@pytest.mark.parametrize(("name", "scratch"), [("caffenet", True), ("vgg16", False)])
def test_without_a_network_the_message_says_how_to_go_on(monkeypatch, tmp_path, name, scratch):
    """Nothing listens at the address; the VGG nets cannot start from nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/model"
        known = copy.deepcopy(pretrained.pretrained())
        known[name]["urls"] = [dead]
        monkeypatch.setattr(pretrained, "pretrained", lambda: known)
        monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "weights")
        with pytest.raises(Failure) as stopped:
            pretrained.find(name)
    words = str(stopped.value)
    assert f"put the file at {tmp_path / 'weights' / known[name]['file']}" in words
    assert "WEIGHTS=path" in words
    assert ("WEIGHTS=none" in words) == scratch


def test_a_model_by_name_that_is_there_is_verified(monkeypatch, tmp_path):
    known = copy.deepcopy(pretrained.pretrained())
    path = tmp_path / known["caffenet"]["file"]
    path.write_bytes(b"AlexNet's, under CaffeNet's name")
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(Failure, match=f"{path.name} is not the model zoo's file.*remove it"):
        pretrained.find("caffenet")
    known["caffenet"]["sha1"] = hashlib.sha1(path.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "pretrained", lambda: known)
    assert pretrained.find("caffenet") == path


def test_leading_ones_are_left_out_in_the_legacy_form_alone(tmp_path, saved):
    """An explicit 1 x 1 x M x N aborts Caffe, where num, channels, height and width do not."""
    _, path = saved
    model = caffe_pb2.NetParameter.FromString(path.read_bytes())
    legacy = copy.deepcopy(model)
    for layer in legacy.layer:
        for blob in layer.blobs:
            shape = (1,) * (4 - len(blob.shape.dim)) + tuple(blob.shape.dim)
            blob.num, blob.channels, blob.height, blob.width = shape
            blob.ClearField("shape")
    path.write_bytes(legacy.SerializeToString())
    weights.fill(make_net(tmp_path), path)
    for layer in model.layer:
        for blob in layer.blobs:
            blob.shape.dim[:] = (1,) * (4 - len(blob.shape.dim)) + tuple(blob.shape.dim)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(Failure, match=r"layer fc7 has the shapes \[\(1, 1, 4, 6\)"):
        weights.fill(make_net(tmp_path), path)
    with pytest.raises(Failure, match="layer fc7 has the shapes"):
        weights.load_for_training(make_net(tmp_path), path)


def damaged(model, how):
    if how == "values":
        model.layer[1].blobs[0].data.pop()
    elif how == "second":
        model.layer.add(name="fc7").blobs.add(data=[1]).shape.dim.append(1)
    else:
        model.layer[0].blobs.add(data=[1]).shape.dim.append(1)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("values", "is damaged: the layer fc7 has 23 numbers in a blob of shape"),
        ("second", "layer fc7 has the shapes"),
        ("data", "a layer data has the shapes"),
    ],
)
def test_what_would_abort_caffe_is_a_sentence(tmp_path, saved, how, reason):
    _, path = saved
    model = caffe_pb2.NetParameter.FromString(path.read_bytes())
    damaged(model, how)
    path.write_bytes(model.SerializeToString())
    for take in (weights.fill, weights.load_for_training):
        with pytest.raises(Failure, match=reason):
            take(make_net(tmp_path), path)
