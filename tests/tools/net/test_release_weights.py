"""Weights under the releases' names give, in our nets, the activations of the release's nets."""

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from tests.tools.release_nets import HEADS, SIDE, VGG_MAP, caffemodel, deploy, release_layers

from tools.compare import extract as compare_loop
from tools.net import render, weights

BITS, CLASSES, WIDTH = 12, 10, 64
SYNTAXES = {"kevinnet": ("V0", "V1", "today's"), "ssdh": ("V0", "V1", "today's")}
SYNTAXES |= {"vgg16": ("V1", "today's"), "vgg16_avg": ("V1", "today's")}


def fill_with_variance(net, random):
    """Give every layer random weights that keep the scale of what goes through it."""
    for blobs in net.params.values():
        fan_in = blobs[0].data[0].size
        blobs[0].data[...] = random.normal(0, np.sqrt(2 / fan_in), blobs[0].data.shape)
        blobs[1].data[...] = random.normal(0, 0.1, blobs[1].data.shape)


def our_net(tmp_path, model):
    """Our deploy net with narrow fully connected layers and the release net's small input."""
    net, method = (model, "ssdh") if model.startswith("vgg") else ("alexnet", model)
    values = {"bits": BITS, "classes": CLASSES, "batch": 2, "seed": 1, "iters": 1}
    values |= {"data": "data", "folder": "run", "alpha": 1.0, "beta": 1.0, "gamma": 1.0}
    text = render.render(net, values, method)["deploy.prototxt"]
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
    arrays = {name: [blob.data for blob in blobs] for name, blobs in net.params.items()}
    _, sigmoid, classifier = HEADS[method]
    layers.append((classifier, "InnerProduct", sigmoid, classifier, {"num_output": CLASSES}))
    arrays[classifier] = [
        random.normal(0, 1, shape).astype(np.float32) for shape in ((CLASSES, BITS), (CLASSES,))
    ]
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
    nets = compare_loop.load(path, model, BITS, HEADS[method][::2], CLASSES, tmp_path)
    ours = our_net(tmp_path, method)
    weights.fill(ours, model)
    pictures = np.random.default_rng(6).normal(0, 50, (2, 3, SIDE, SIDE)).astype(np.float32)
    latent, probabilities = compare_loop.activations(nets, pictures)
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


def load_words(*arguments):
    with pytest.raises(SystemExit) as stopped:
        compare_loop.load(*arguments)
    return str(stopped.value)


def test_what_does_not_fit_is_named(tmp_path, release):
    method, _, path, model = release
    head = HEADS[method][::2]
    words = load_words(path, model, BITS + 4, head, CLASSES, tmp_path)
    assert f"release_deploy.prototxt is of {BITS} bits, and BITS={BITS + 4} is asked for" in words
    longer = tmp_path / "longer.prototxt"
    longer.write_text(deploy(release_layers(method, BITS + 4, WIDTH), "today's"))
    words = load_words(longer, model, BITS + 4, head, CLASSES, tmp_path)
    assert f"release.caffemodel is of {BITS} bits, and BITS={BITS + 4} is asked for" in words
    whole, bad = model.read_bytes(), tmp_path / "bad.caffemodel"
    for content, reason in (
        (b"", "is empty"),
        (whole[:-100], "is not a whole caffemodel"),
        (b"<!DOCTYPE html><html>", "is a web page"),
    ):
        bad.write_bytes(content)
        assert f"bad.caffemodel {reason}" in load_words(path, bad, BITS, head, CLASSES, tmp_path)
    model = caffe_pb2.NetParameter.FromString(whole)
    gone = "conv3_1" if method.startswith("vgg") else "conv3"
    for layer in (*model.layer, *model.layers):
        if weights.inner(layer).name == gone:
            del weights.inner(layer).blobs[:]
    bad.write_bytes(model.SerializeToString())
    words = load_words(path, bad, BITS, head, CLASSES, tmp_path)
    assert f"bad.caffemodel has no weights for the layer(s) {gone}" in words


def test_another_method_s_deploy_file_or_another_data_set_s_model_is_refused(tmp_path, release):
    method, _, path, model = release
    other = HEADS["ssdh" if method == "kevinnet" else "kevinnet"]
    words = load_words(path, model, BITS, other[::2], CLASSES, tmp_path)
    assert (
        f"its codes on the layer {HEADS[method][0]}, and this METHOD's are on {other[0]}" in words
    )
    words = load_words(path, model, BITS, HEADS[method][::2], CLASSES + 1, tmp_path)
    assert (
        f"release.caffemodel tells {CLASSES} classes apart, and the data has {CLASSES + 1}" in words
    )


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
