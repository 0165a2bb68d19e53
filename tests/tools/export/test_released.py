"""A released caffemodel, in its own syntax, is exported like one of ours."""

import caffe
import numpy as np
import onnx
import pytest

from tests.tools.net.release_nets import (
    HEADS,
    SIDE,
    caffemodel,
    deploy,
    release_layers,
    with_classifier,
)
from tests.tools.run.jobs import make_job
from tools.export import caffe_side, parity, random_net
from tools.net import model
from tools.net.exported import open_session, run_session

BITS, CLASSES, WIDTH = 12, 5, 64
SYNTAXES = [("kevinnet", "V0"), ("kevinnet", "V1"), ("ssdh", "V1"), ("ssdh", "today's")]


@pytest.fixture(params=SYNTAXES, ids=" ".join)
def released(request, tmp_path):
    """(method, the release's narrow net with random weights, its caffemodel)."""
    method, syntax = request.param
    random = np.random.default_rng(5)
    layers = release_layers(method, BITS, WIDTH)
    (tmp_path / "release.prototxt").write_text(deploy(layers, syntax))
    net = caffe.Net(str(tmp_path / "release.prototxt"), caffe.TEST)
    random_net.fill(net)
    layers, arrays = with_classifier(method, layers, net, CLASSES, random)
    file = tmp_path / "release.caffemodel"
    file.write_bytes(caffemodel(layers, arrays, syntax).SerializeToString())
    return method, net, file


def narrowed(folder):
    """Make the prototxt of a folder as narrow as the release's net is here, and its pictures."""
    for name in ("deploy.prototxt", "train_val.prototxt"):
        text = (folder / name).read_text()
        for whole, small in (
            ("num_output: 4096", f"num_output: {WIDTH}"),
            ("crop_size: 227", f"crop_size: {SIDE}"),
            ("dim: 227 dim: 227", f"dim: {SIDE} dim: {SIDE}"),
        ):
            text = text.replace(whole, small)
        (folder / name).write_text(text)


def test_it_is_opened_as_make_codes_opens_it_and_gives_the_release_s_codes(released, tmp_path):
    method, theirs, file = released
    job = make_job(
        DATASET="cifar10",
        DATA_ROOT=str(tmp_path / "none"),
        NET="alexnet",
        METHOD=method,
        BITS=str(BITS),
        WEIGHTS=str(file),
    )
    opened = model.of_weights(job, tmp_path)
    narrowed(tmp_path)
    of_net = {
        name: getattr(opened, name) for name in ("folder", "caffemodel", "data", "net", "blobs")
    }
    pictures = np.random.default_rng(6).integers(0, 256, (4, 3, 256, 256)).astype(np.uint8)
    out = tmp_path / "export"
    out.mkdir()
    written = caffe_side.write(**of_net, gpu=None, pictures=pictures, facts={}, out=out)
    found = parity.prove(
        *(out, pictures, written),
        lambda picture: caffe_side.layer_outputs(**of_net, gpu=None, picture=picture),
        1,
    )
    assert all(figures["bits"] == 4 * BITS for figures in found.values())
    exported = run_session(open_session(out / "model.onnx", 1), pictures, features=True)
    inputs = parity.prepared(pictures, written.preparation)
    for at in (0, 2):  # the release's net takes two pictures
        theirs.blobs["data"].data[...] = inputs[at : at + 2]
        latent = theirs.forward()[HEADS[method][1]]
        assert latent.std() > 0.1
        np.testing.assert_allclose(exported.latent[at : at + 2], latent, atol=1e-4)
    assert exported.probabilities.shape == (4, CLASSES)
    weights = {each.name: each.dims for each in onnx.load(out / "model.onnx").graph.initializer}
    assert list(weights[f"{HEADS[method][0]}/weights"]) == [BITS, WIDTH]  # not 1 x 1 x K x F
