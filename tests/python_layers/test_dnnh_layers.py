"""DNNH's two layers inside real nets: values, gradients, and wiring that is refused."""

import itertools

import caffe
import numpy as np
import pytest

LABELS = np.array([0, 1, 0, 2, 1, 0, 3])


def make_net(tmp_path, shape, layer, *, labels=None, param="", tops=1):
    """A net of one layer; its inputs are a and, where labels are given, their blob."""
    dims = " ".join(f"dim: {d}" for d in shape)
    names = ["a"] if labels is None else ["a", "label"]
    shapes = f"shape {{ {dims} }}" + ("" if labels is None else f" shape {{ dim: {len(labels)} }}")
    text = 'force_backward: true layer { name: "in" type: "Input" '
    text += " ".join(f'top: "{name}"' for name in names) + f" input_param {{ {shapes} }} }}"
    text += 'layer { name: "under test" type: "Python" '
    text += " ".join(f'bottom: "{name}"' for name in names)
    text += " " + " ".join(f'top: "out{i}" loss_weight: 1' for i in range(tops))
    text += f' python_param {{ module: "dnnh_layers" layer: "{layer}" param_str: "{param}" }} }}'
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = caffe.Net(str(path), caffe.TRAIN)
    if labels is not None:
        net.blobs["label"].data[...] = labels
    return net


def gradient_of(net, a):
    """What the net says of its loss at activations a: the loss, and its gradient."""
    net.blobs["a"].data[...] = a
    loss = float(net.forward()["out0"].sum())
    net.backward()
    return loss, net.blobs["a"].diff.copy()


def by_differences(net, a, step=1e-2):
    """Central differences of the loss."""
    found = np.empty(a.shape)
    for index in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[index] += step
        down[index] -= step
        found[index] = (gradient_of(net, up)[0] - gradient_of(net, down)[0]) / (2 * step)
    return found


def all_terms(codes, labels):
    """1 - ||F - F-||^2 + ||F - F+||^2 of each triplet of a batch, one by one."""
    codes, terms = np.asarray(codes, np.float64), []
    for anchor, positive, negative in itertools.permutations(range(len(codes)), 3):
        if labels[anchor] == labels[positive] != labels[negative]:
            near = ((codes[anchor] - codes[positive]) ** 2).sum()
            far = ((codes[anchor] - codes[negative]) ** 2).sum()
            terms.append(1 - far + near)
    return terms


@pytest.mark.parametrize("shape", [(7, 1), (7, 48), (7, 4, 2, 2)])
def test_the_triplet_loss_is_that_of_loops(tmp_path, shape):
    net = make_net(tmp_path, shape, "TripletLossLayer", labels=LABELS)
    for seed in range(5):
        a = np.random.RandomState(seed).rand(*shape).astype(np.float32)
        terms = all_terms(a.reshape(7, -1), LABELS)
        assert len(terms) == 3 * 2 * 4 + 2 * 1 * 5
        assert gradient_of(net, a)[0] == pytest.approx(np.maximum(terms, 0).mean(), rel=1e-5)


def test_the_triplet_loss_s_gradient_by_finite_differences(tmp_path):
    """Some triplets are above the hinge and some below, none so near that a step crosses it."""
    net = make_net(tmp_path, (7, 6), "TripletLossLayer", labels=LABELS)
    a = (1.2 * np.random.RandomState(31).rand(7, 6)).astype(np.float32)
    terms = np.array(all_terms(a, LABELS))
    assert np.abs(terms).min() > 0.1 and 0 < np.count_nonzero(terms < 0) < len(terms) / 2
    _, gradient = gradient_of(net, a)
    np.testing.assert_allclose(gradient, by_differences(net, a), atol=1e-4)
    assert np.abs(gradient).max() > 0.05


@pytest.mark.parametrize("labels", [[4] * 7, range(7), [0, 0, 1]])
def test_a_batch_without_a_triplet_teaches_nothing(tmp_path, labels):
    labels = np.array(labels)
    shape = (len(labels), 5)
    net = make_net(tmp_path, shape, "TripletLossLayer", labels=labels)
    loss, gradient = gradient_of(net, np.random.RandomState(1).rand(*shape))
    if len(labels) == 3:  # two triplets: each of the two is the other's positive
        assert loss > 0 and (gradient != 0).any()
    else:
        assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("half", [0.1, 0.25, 0.5])
def test_the_threshold_cuts_outside_its_middle(tmp_path, half):
    net = make_net(tmp_path, (2, 101), "PiecewiseThresholdLayer", param=half)
    a = np.tile(np.linspace(0, 1, 101), (2, 1)).astype(np.float32)
    _, gradient = gradient_of(net, a)
    within = np.abs(a - 0.5) <= np.float32(half)
    out = net.blobs["out0"].data
    np.testing.assert_array_equal(out, np.where(within, a, a > 0.5))
    np.testing.assert_array_equal(gradient, within)
    np.testing.assert_array_equal(out > 0.5, a > 0.5)  # no bit becomes another


def test_the_threshold_s_gradient_by_finite_differences(tmp_path):
    net = make_net(tmp_path, (4, 6), "PiecewiseThresholdLayer", param=0.2)
    a = np.random.RandomState(3).choice([0.1, 0.2, 0.35, 0.5, 0.6, 0.9], (4, 6)).astype(np.float32)
    _, gradient = gradient_of(net, a)
    np.testing.assert_allclose(gradient, by_differences(net, a), atol=1e-4)
    assert 0 < gradient.sum() < gradient.size


def test_what_is_not_a_number_is_seen_in_the_loss(tmp_path):
    a = np.random.RandomState(1).rand(7, 5).astype(np.float32)
    a[2, 3] = np.nan
    net = make_net(tmp_path, a.shape, "TripletLossLayer", labels=LABELS)
    assert np.isnan(gradient_of(net, a)[0])
    net = make_net(tmp_path, a.shape, "PiecewiseThresholdLayer", param=0.25)
    assert np.isnan(gradient_of(net, a)[0])
    assert np.isnan(net.blobs["out0"].data).sum() == 1


@pytest.mark.parametrize("param", ["", "x", "0", "0.6", "nan"])
def test_a_width_that_is_none_is_refused(tmp_path, param):
    with pytest.raises(ValueError, match="half the width of the part around 1/2"):
        make_net(tmp_path, (2, 3), "PiecewiseThresholdLayer", param=param)


def test_wrong_wiring_gives_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="bottoms: the pictures' numbers, labels; it has 1"):
        make_net(tmp_path, (2, 3), "TripletLossLayer")
    with pytest.raises(ValueError, match="tops: the loss; it has 2"):
        make_net(tmp_path, (2, 3), "TripletLossLayer", labels=[0, 1], tops=2)
    with pytest.raises(ValueError, match="7 pictures and 2 labels"):
        make_net(tmp_path, (7, 3), "TripletLossLayer", labels=[0, 1])
    with pytest.raises(ValueError, match="bottoms: the activations; it has 2"):
        make_net(tmp_path, (2, 3), "PiecewiseThresholdLayer", labels=[0, 1], param=0.1)
