"""A deploy net with tools/net/preprocess.py gives what Caffe's own TEST-phase Data layer gives."""

import caffe
import numpy as np
import pytest

from data_prep.lmdb_reader import iterate, open_rows
from data_prep.mean_image import to_binaryproto
from tools.net import preprocess, render
from tools.net.trained import TrainedNet, forward
from tools.run.failure import Failure
from tools.run.nets import nets

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("spoil", [lambda whole: whole[:100], lambda whole: b"\xff" * 40])
def test_a_damaged_mean_image_is_said(tmp_path, spoil):
    path = tmp_path / "mean.binaryproto"
    whole = to_binaryproto(np.ones((3, 8, 8), np.float32))
    path.write_bytes(whole)
    assert preprocess.mean_image(path).shape == (3, 8, 8)
    for content in (spoil(whole), to_binaryproto(np.full((3, 8, 8), np.nan, np.float32))):
        path.write_bytes(content)
        with pytest.raises(Failure, match=r"mean\.binaryproto is damaged"):
            preprocess.mean_image(path)


@pytest.mark.parametrize("name", ["lenet", "cifar_small", "alexnet"])
def test_identical_to_the_data_layer(tmp_path, command, name):
    net = nets()[name]
    made = command(
        *("data_prep", "digits", "--root", tmp_path, "--subset", 100, "--side", net.side),
        *("--channels", net.channels, "--mean", net.mean),
    )
    assert made.returncode == 0, made.stderr
    data = tmp_path / "digits" / f"{net.side}x{net.channels}-100"
    values = {"data": data, "folder": tmp_path, "iters": 1, "classes": 10, "bits": 32, "batch": 10}
    files = render.render(net, "ssdh", seed=1, **values, **render.loss_weights())
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    train_val = caffe.Net(str(tmp_path / "train_val.prototxt"), caffe.TEST)
    weights = tmp_path / "random.caffemodel"
    train_val.save(str(weights))
    train_val.forward()
    batch = train_val.blobs["data"].data.shape[0]

    blobs = net.blobs("ssdh")
    trained = TrainedNet(tmp_path, weights, data=data, net=net, blobs=blobs, batch=batch, gpu=None)
    rows = [row for row, *_ in iterate(data / "test_lmdb")]
    with open_rows(data / "test_lmdb") as (_, read):
        pictures, labels = read(rows[:batch])
    outputs = trained(pictures, features=True)
    inputs = trained.caffe_net.blobs["data"].data
    np.testing.assert_array_equal(inputs, train_val.blobs["data"].data)
    np.testing.assert_array_equal(labels, train_val.blobs["label"].data)
    expected = train_val.blobs["latent_sigmoid"].data
    assert expected.std() > 0
    np.testing.assert_array_equal(outputs.latent, expected)
    np.testing.assert_array_equal(outputs.codes, np.packbits(expected > 0.5, axis=1))
    features = train_val.blobs[net.features].data.reshape(batch, -1)
    np.testing.assert_array_equal(outputs.features, features)


def test_padding_does_not_change_a_row(tmp_path):
    text = (
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 8 dim: 5 } } }\n'
        'layer { name: "h" type: "InnerProduct" bottom: "data" top: "h" inner_product_param '
        '{ num_output: 3 weight_filler { type: "xavier" } } }'
    )
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TEST)
    inputs = np.random.RandomState(0).rand(8, 5).astype(np.float32)
    (whole,) = forward(net, inputs, ["h"])
    (part,) = forward(net, inputs[:3], ["h"])
    np.testing.assert_array_equal(part, whole[:3])


def test_crop_offset_is_caffe_s():
    """256 to 227: Caffe's centre crop starts at 14, the release's MATLAB at 15."""
    picture = np.arange(256, dtype=np.uint8)[None, None, None, :].repeat(256, axis=2)
    out = preprocess.transform(picture, np.zeros((1, 256, 256), np.float32), 227, 1.0)
    assert out.shape == (1, 1, 227, 227)
    assert (out[0, 0, 0, 0], out[0, 0, 0, -1]) == (14, 240)
