"""The two loss layers, inside real nets: values, gradients, and wiring that is refused."""

import caffe
import numpy as np
import pytest

LAYERS = {"binarization": "BinarizationLossLayer", "balance": "BalanceLossLayer"}


def make_net(tmp_path, shape, layer, bottoms=1, tops=1, weight=1.0):
    dims = " ".join(f"dim: {d}" for d in shape)
    names = ["a"] + [f"extra{i}" for i in range(1, bottoms)]
    outputs = " ".join(f'top: "loss{i}" loss_weight: {weight}' for i in range(tops))
    text = 'force_backward: true layer { name: "in" type: "Input" '
    text += " ".join(f'top: "{name}"' for name in names)
    text += " input_param { " + f"shape {{ {dims} }} " * bottoms + "} } "
    text += 'layer { name: "loss" type: "Python" '
    text += " ".join(f'bottom: "{name}"' for name in names)
    text += f' {outputs} python_param {{ module: "ssdh_losses" layer: "{layer}" }} }}'
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TRAIN)


def formula(name, a):
    """The term of design, in float64, for activations of any shape."""
    a = np.asarray(a, np.float64).reshape(len(a), -1)
    n, k = a.shape
    if name == "binarization":
        return -((a - 0.5) ** 2).sum() / (2 * n * k)
    return ((a.mean(axis=1) - 0.5) ** 2).sum() / (2 * n)


def formula_gradient(name, a):
    flat = np.asarray(a, np.float64).reshape(len(a), -1)
    n, k = flat.shape
    if name == "binarization":
        gradient = -(flat - 0.5) / (n * k)
    else:
        gradient = np.repeat((flat.mean(axis=1, keepdims=True) - 0.5) / (n * k), k, axis=1)
    return gradient.reshape(a.shape)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 48), (32, 1024), (3, 4, 2, 2)])
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_value_and_gradient_against_the_formulas(tmp_path, name, shape, weight):
    net = make_net(tmp_path, shape, LAYERS[name], weight=weight)
    a = np.random.RandomState(1).rand(*shape).astype(np.float32)
    net.blobs["a"].data[...] = a
    net.forward()
    assert float(net.blobs["loss0"].data[0]) == pytest.approx(formula(name, a), rel=1e-5, abs=1e-9)
    net.backward()
    expected = weight * formula_gradient(name, a)
    np.testing.assert_allclose(net.blobs["a"].diff, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_by_finite_differences(tmp_path, name):
    shape = (4, 6)
    net = make_net(tmp_path, shape, LAYERS[name])
    a = np.random.RandomState(2).rand(*shape).astype(np.float32)

    def loss(values):
        net.blobs["a"].data[...] = values
        net.forward()
        return float(net.blobs["loss0"].data[0])

    loss(a)
    net.backward()
    gradient = net.blobs["a"].diff.copy()
    step = 0.05  # the terms are quadratic: central differences are exact but for rounding
    for index in np.ndindex(shape):
        up, down = a.copy(), a.copy()
        up[index] += step
        down[index] -= step
        assert (loss(up) - loss(down)) / (2 * step) == pytest.approx(gradient[index], abs=2e-6)


def test_limits_of_the_terms(tmp_path):
    binarization = make_net(tmp_path, (5, 8), LAYERS["binarization"])
    binarization.blobs["a"].data[...] = np.random.RandomState(3).randint(0, 2, (5, 8))
    assert binarization.forward()["loss0"][0] == -0.125  # every unit saturated
    balance = make_net(tmp_path, (5, 8), LAYERS["balance"])
    balance.blobs["a"].data[...] = [1, 0] * 4
    assert balance.forward()["loss0"][0] == 0  # half of the bits fire
    balance.blobs["a"].data[...] = 1
    assert balance.forward()["loss0"][0] == 0.125


@pytest.mark.parametrize("name", LAYERS)
def test_buffers_follow_a_new_batch_size(tmp_path, name):
    net = make_net(tmp_path, (4, 6), LAYERS[name])
    a = np.random.RandomState(4).rand(9, 6).astype(np.float32)
    net.blobs["a"].reshape(9, 6)
    net.reshape()
    net.blobs["a"].data[...] = a
    assert net.forward()["loss0"][0] == pytest.approx(formula(name, a), rel=1e-5)


@pytest.mark.parametrize("layer", LAYERS.values())
def test_wrong_wiring_gives_a_sentence(tmp_path, layer):
    with pytest.raises(ValueError, match=f"{layer} takes one bottom.*but has 2"):
        make_net(tmp_path, (2, 3), layer, bottoms=2)
    with pytest.raises(ValueError, match=f"{layer} gives one top.*but has 2"):
        make_net(tmp_path, (2, 3), layer, tops=2)
    with pytest.raises(ValueError, match=f"{layer} needs activations of shape N x K"):
        make_net(tmp_path, (5,), layer)


@pytest.mark.parametrize("layer", LAYERS.values())
def test_no_allocation_in_an_iteration(tmp_path, layer):
    """The layer's own buffers are the same objects before and after forward and backward."""
    net = make_net(tmp_path, (4, 6), layer)
    own = net.layers[list(net._layer_names).index("loss")]
    before = {name: v for name, v in vars(own).items() if isinstance(v, np.ndarray)}
    assert before
    for _ in range(3):
        net.forward()
        net.backward()
    assert all(vars(own)[name] is array for name, array in before.items())
