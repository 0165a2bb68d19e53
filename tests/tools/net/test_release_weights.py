"""Weights under the releases' names give, in our nets, the activations of the release's nets."""

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from tests.tools.net.release_nets import (
    HEADS,
    SIDE,
    VGG_MAP,
    caffemodel,
    deploy,
    release_layers,
    with_classifier,
)
from tools.compare.net import activations, code_blob, load
from tools.net import render, weights
from tools.run.failure import Failure
from tools.run.nets import net_of

pytestmark = pytest.mark.slow

BITS, CLASSES, WIDTH = 12, 10, 64
SYNTAXES = {"kevinnet": ("V0", "V1", "today's"), "ssdh": ("V0", "V1", "today's")}
SYNTAXES |= {"vgg16": ("V1", "today's"), "vgg16_avg": ("V1", "today's")}


def fill_with_variance(net, random):
    """Give every layer random weights that keep the scale of what goes through it."""
    for blobs in net.params.values():
        fan_in = blobs[0].data[0].size
        blobs[0].data[...] = random.normal(0, np.sqrt(2 / fan_in), blobs[0].data.shape)
        blobs[1].data[...] = random.normal(0, 0.1, blobs[1].data.shape)


def ours(model):
    """(our net, its method) of a released model."""
    name, method = (model, "ssdh") if model.startswith("vgg") else ("alexnet", model)
    return net_of(name), method


def blobs(model):
    net, method = ours(model)
    return net.blobs(method)


def our_net(tmp_path, model):
    """Our deploy net with narrow fully connected layers and the release net's small input."""
    files = render.render(
        *ours(model),
        bits=BITS,
        classes=CLASSES,
        batch=2,
        seed=1,
        iters=1,
        data="data",
        folder="run",
        **render.loss_weights(),
    )
    text = files["deploy.prototxt"]
    text = text.replace("num_output: 4096", f"num_output: {WIDTH}")
    text = text.replace("kernel_size: 14", f"kernel_size: {VGG_MAP}")
    crop = 224 if model.startswith("vgg") else 227
    shape = f"dim: 1 dim: 3 dim: {crop} dim: {crop}"
    assert shape in text
    text = text.replace(shape, f"dim: 2 dim: 3 dim: {SIDE} dim: {SIDE}")
    path = tmp_path / "ours.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TEST)


@pytest.fixture(scope="module", params=[(m, s) for m in HEADS for s in SYNTAXES[m]])
def release(request, tmp_path_factory):
    """(method, the release's net with random weights, its deploy file, its caffemodel)."""
    method, syntax = request.param
    random, folder = np.random.default_rng(5), tmp_path_factory.mktemp("release")
    layers = release_layers(method, BITS, WIDTH)
    path = folder / "release_deploy.prototxt"
    path.write_text(deploy(layers, syntax))
    net = caffe.Net(str(path), caffe.TEST)
    fill_with_variance(net, random)
    layers, arrays = with_classifier(method, layers, net, CLASSES, random)
    model = folder / "release.caffemodel"
    model.write_bytes(caffemodel(layers, arrays, syntax).SerializeToString())
    return method, net, path, model


def test_the_same_activations_blob_by_blob(tmp_path, release):
    method, theirs, _, model = release
    ours = our_net(tmp_path, method)
    weights.fill(ours, model)
    pictures = np.random.default_rng(6).normal(0, 50, (2, 3, SIDE, SIDE)).astype(np.float32)
    for net in (theirs, ours):
        net.blobs["data"].data[...] = pictures
        net.forward()
    compared = [name for name in ours.blobs if name in theirs.blobs]
    # data, conv, pool (and norm) layers, fc6, fc7, the latent layer, its sigmoid
    assert len(compared) == {"vgg16": 23, "vgg16_avg": 21}.get(method, 15)
    for name in compared:
        a, b = theirs.blobs[name].data, ours.blobs[name].data
        assert a.std() > 0, name
        assert np.abs(a - b).max() == 0, name
    assert ours.blobs["prob"].data.std() > 0


def test_the_released_deploy_file_and_ours_give_the_same_codes(tmp_path, release):
    """As make compare loads them; the classifier is the caffemodel's."""
    method, _, path, model = release
    released = load(path, model, blobs=blobs(method), bits=BITS, classes=CLASSES, folder=tmp_path)
    assert released.code == HEADS[method][1]
    ours = our_net(tmp_path, method)
    weights.fill(ours, model)
    pictures = np.random.default_rng(6).normal(0, 50, (2, 3, SIDE, SIDE)).astype(np.float32)
    latent, probabilities = activations(released, pictures)
    ours.blobs["data"].data[...] = pictures
    ours.forward()
    # in batches of 10, not of 2: sums in another order
    np.testing.assert_allclose(latent, ours.blobs[HEADS[method][1]].data, atol=1e-4)
    np.testing.assert_allclose(probabilities, ours.blobs["prob"].data, atol=1e-4)


def test_training_can_start_from_it_with_another_code_length(tmp_path, release):
    """The latent layer and the classifier start fresh, in V0 files too, where names lie deeper."""
    method, _, _, model = release
    other = tmp_path / "other"
    other.mkdir()
    net = our_net(other, method)
    latent, _, classifier = HEADS[method]
    kept = our_net(tmp_path, method)
    weights.load_for_training(kept, model)
    text = (other / "ours.prototxt").read_text().replace(f"num_output: {BITS}\n", "num_output: 9\n")
    (other / "ours.prototxt").write_text(text)
    net = caffe.Net(str(other / "ours.prototxt"), caffe.TEST)
    sentence = weights.load_for_training(net, model)
    assert f"starting fresh: {latent}, {classifier}" in sentence
    for name in set(net.params) - {latent, classifier}:
        np.testing.assert_array_equal(net.params[name][0].data, kept.params[name][0].data)


def refusal(method, path, model, *, folder, bits=BITS, classes=CLASSES):
    """The sentence with which a deploy file and a caffemodel are refused."""
    with pytest.raises(Failure) as refused:
        load(path, model, blobs=blobs(method), bits=bits, classes=classes, folder=folder)
    return str(refused.value)


def test_what_does_not_fit_is_named(tmp_path, release):
    method, _, path, model = release
    said = refusal(method, path, model, folder=tmp_path, bits=BITS + 4)
    assert f"release_deploy.prototxt is of {BITS} bits, and BITS={BITS + 4} is asked for" in said
    longer = tmp_path / "longer.prototxt"
    longer.write_text(deploy(release_layers(method, BITS + 4, WIDTH), "today's"))
    said = refusal(method, longer, model, folder=tmp_path, bits=BITS + 4)
    assert f"release.caffemodel is of {BITS} bits, and BITS={BITS + 4} is asked for" in said
    whole, bad = model.read_bytes(), tmp_path / "bad.caffemodel"
    for content, reason in (
        (b"", "is empty"),
        (whole[:-100], "is not a whole caffemodel"),
        (b"<!DOCTYPE html><html>", "is a web page"),
    ):
        bad.write_bytes(content)
        assert f"bad.caffemodel {reason}" in refusal(method, path, bad, folder=tmp_path)
    model = caffe_pb2.NetParameter.FromString(whole)
    gone = "conv3_1" if method.startswith("vgg") else "conv3"
    for layer in (*model.layer, *model.layers):
        if weights.inner(layer).name == gone:
            del weights.inner(layer).blobs[:]
    bad.write_bytes(model.SerializeToString())
    said = refusal(method, path, bad, folder=tmp_path)
    assert f"bad.caffemodel has no weights for the layer(s) {gone}" in said


def test_another_method_s_deploy_file_or_another_data_set_s_model_is_refused(tmp_path, release):
    method, _, path, model = release
    other = "ssdh" if method == "kevinnet" else "kevinnet"
    said = refusal(other, path, model, folder=tmp_path)
    assert f"has no layer {HEADS[other][0]}, on which this METHOD's codes are" in said
    assert f"its last ones are {HEADS[method][0]}, {HEADS[method][1]}" in said
    said = refusal(method, path, model, folder=tmp_path, classes=CLASSES + 1)
    assert (
        f"release.caffemodel tells {CLASSES} classes apart, and the data has {CLASSES + 1}" in said
    )


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        (["Sigmoid"], None),
        ([], "the layer latent feeds nothing"),
        (["ReLU"], "the layer latent feeds behind0"),
        (["Sigmoid", "Sigmoid"], "in a net with codes it feeds one Sigmoid layer"),
    ],
)
def test_the_codes_are_what_one_sigmoid_makes_of_the_latent_layer(tmp_path, kinds, says):
    """Another sigmoid, as of a gate, is not taken for it."""
    layers = release_layers("ssdh", BITS, WIDTH)[:-1]
    layers.insert(-1, ("gate", "Sigmoid", "fc7", "gate", {}))
    layers += [(f"behind{at}", kind, "latent", f"top{at}", {}) for at, kind in enumerate(kinds)]
    layers.append(("last", "Sigmoid", "gate", "last", {}))
    path = tmp_path / "deploy.prototxt"
    path.write_text(deploy(layers, "today's"))
    net = caffe.Net(str(path), caffe.TEST)
    if not says:
        assert code_blob(net, "latent", path) == "top0"
        return
    with pytest.raises(Failure, match=says):
        code_blob(net, "latent", path)


def test_shapes_of_four_axes_and_of_today_are_the_same(tmp_path):
    layers = release_layers("ssdh", BITS, WIDTH)
    path = tmp_path / "deploy.prototxt"
    path.write_text(deploy(layers, "today's"))
    net = caffe.Net(str(path), caffe.TEST)
    arrays = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    legacy, today = (
        weights.shapes(caffemodel(layers, arrays, "V1", legacy_shapes=old)) for old in (True, False)
    )
    assert legacy["latent"] == [(1, 1, BITS, WIDTH), (1, 1, 1, BITS)]
    assert weights.compare(legacy, today) == (list(today), [], [])
