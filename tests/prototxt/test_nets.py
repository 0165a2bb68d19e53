"""Every template builds as a real Caffe net, and the recipes hold field by field."""

import caffe
import numpy as np
import pytest

from tools import render
from tools.job import nets

SPECS = nets()["nets"]


def values(bits, folder="run", data="data", classes=10, net="lenet"):
    return {
        "data": data,
        "folder": folder,
        "iters": SPECS[net]["iters"],
        "classes": classes,
        "bits": bits,
        "batch": SPECS[net]["batch"],
        "seed": 42,
        "alpha": 1.0,
        "beta": 1.0,
        "gamma": 1.0,
    }


def rendered(net, name, bits=48, **others):
    text = render.render(net, values(bits, net=net, **others))[name]
    return render.parse(text, name)


@pytest.mark.parametrize("bits", [8, 12, 48, 1024])
@pytest.mark.parametrize("net", SPECS)
def test_deploy_builds_and_gives_codes_and_probabilities(tmp_path, net, bits):
    classes = 397 if bits == 1024 else 10
    path = tmp_path / "deploy.prototxt"
    path.write_text(render.render(net, values(bits, classes=classes, net=net))["deploy.prototxt"])
    built = caffe.Net(str(path), caffe.TEST)
    assert built.blobs["latent_sigmoid"].data.shape == (1, bits)
    assert built.blobs["prob"].data.shape == (1, classes)
    assert SPECS[net]["features"] in built.blobs


@pytest.mark.parametrize("net", SPECS)
def test_train_val_has_the_layers_of_deploy(net):
    """Same names, types and shapes of everything learned, so that weights copy by name."""

    def learned(param):
        return {
            layer.name: (layer.type, layer.convolution_param.num_output, layer.bottom[0])
            for layer in param.layer
            if layer.type in ("Convolution", "InnerProduct", "BatchNorm", "Scale")
        }

    assert learned(rendered(net, "train_val.prototxt")) == learned(rendered(net, "deploy.prototxt"))


@pytest.mark.parametrize("net", SPECS)
def test_the_three_terms_and_their_weights(net):
    layers = {layer.name: layer for layer in rendered(net, "train_val.prototxt").layer}
    assert layers["classification"].type == "SoftmaxWithLoss"
    assert layers["binarization"].python_param.layer == "BinarizationLossLayer"
    assert layers["balance"].python_param.layer == "BalanceLossLayer"
    for name in ("classification", "binarization", "balance"):
        assert list(layers[name].loss_weight) == [1]
    assert layers["latent_sigmoid"].type == "Sigmoid"
    assert list(layers["fc9"].bottom) == ["latent_sigmoid"]


def test_alexnet_is_the_release_s_recipe():
    param = rendered("alexnet", "train_val.prototxt")
    layers = {layer.name: layer for layer in param.layer}
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "latent"):
        assert [(p.lr_mult, p.decay_mult) for p in layers[name].param] == [(1, 1), (2, 0)]
    assert [(p.lr_mult, p.decay_mult) for p in layers["fc9"].param] == [(10, 1), (20, 0)]
    latent, fc9 = layers["latent"].inner_product_param, layers["fc9"].inner_product_param
    assert (latent.num_output, fc9.num_output) == (48, 10)
    assert (latent.weight_filler.type, latent.bias_filler.value) == ("gaussian", 0)
    assert latent.weight_filler.std == pytest.approx(0.01)
    assert (fc9.weight_filler.type, fc9.bias_filler.value) == ("gaussian", 0)
    assert fc9.weight_filler.std == pytest.approx(0.2)
    data = {layer.include[0].phase: layer for layer in param.layer if layer.name == "data"}
    train, test = data[caffe.TRAIN], data[caffe.TEST]
    assert (train.transform_param.crop_size, test.transform_param.crop_size) == (227, 227)
    assert (train.transform_param.mirror, test.transform_param.mirror) == (True, False)
    assert (train.data_param.batch_size, test.data_param.batch_size) == (32, 50)


def test_alexnet_s_solver_is_the_release_s():
    solver = rendered("alexnet", "solver.prototxt")
    expected = {
        "base_lr": 0.001,
        "lr_policy": "step",
        "gamma": 0.1,
        "stepsize": 25000,
        "max_iter": 50000,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "test_interval": 1000,
        "random_seed": 42,
    }
    for field, value in expected.items():
        got = getattr(solver, field)
        assert got == (value if isinstance(value, (str, int)) else pytest.approx(value)), field
    assert list(solver.test_iter) == [200]


def test_alexnet_is_caffenet_below_the_latent_layer():
    """Shapes of every layer that the pretrained model fills, as CaffeNet has them."""
    shapes = {
        "conv1": (96, 11, 4, 0, 1),
        "conv2": (256, 5, 1, 2, 2),
        "conv3": (384, 3, 1, 1, 1),
        "conv4": (384, 3, 1, 1, 2),
        "conv5": (256, 3, 1, 1, 2),
    }
    layers = {layer.name: layer for layer in rendered("alexnet", "deploy.prototxt").layer}
    for name, shape in shapes.items():
        p = layers[name].convolution_param
        stride, pad = (p.stride or [1])[0], (p.pad or [0])[0]
        assert (p.num_output, p.kernel_size[0], stride, pad, p.group) == shape, name
    order = [layer.name for layer in rendered("alexnet", "deploy.prototxt").layer]
    assert order.index("pool1") < order.index("norm1")  # CaffeNet pools before it normalizes
    assert layers["fc6"].inner_product_param.num_output == 4096
    assert layers["fc7"].inner_product_param.num_output == 4096


def test_every_layer_starts_with_variance(tmp_path):
    """From scratch, no layer of cifar_small or lenet is all zeros."""
    for net in ("lenet", "cifar_small"):
        text = render.render(net, values(48, net=net))["train_val.prototxt"]
        param = render.parse(text, "train_val.prototxt")
        del param.layer[:2]  # the Data layers need an LMDB; fillers do not
        side = 28
        head = (
            'layer { name: "data" type: "Input" top: "data" top: "label" input_param { '
            f"shape {{ dim: 2 dim: {SPECS[net]['channels']} dim: {side} dim: {side} }} "
            "shape { dim: 2 } } }\n"
        )
        path = tmp_path / f"{net}.prototxt"
        path.write_text(head + str(param))
        built = caffe.Net(str(path), caffe.TRAIN)
        for name, blobs in built.params.items():
            if not name.endswith("_norm"):  # BatchNorm's statistics start at zero
                assert np.ptp(blobs[0].data) > 0 or name.endswith("_scale"), name
