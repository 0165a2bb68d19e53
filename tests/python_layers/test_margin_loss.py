"""The margin loss of several labels, inside real nets: values, gradients, and refused wiring."""

import caffe
import numpy as np
import pytest

SHAPES = [((1, 1), (1, 1)), ((7, 10), (7, 10, 1, 1)), ((32, 81), (32, 81)), ((3, 4, 2), (3, 8))]


def make_net(tmp_path, scores, labels, p="1", weight=1.0, bottoms=2, tops=1):
    shapes = [scores, labels, labels][:bottoms]
    names = ["t", "label", "more"][:bottoms]
    text = 'force_backward: true layer { name: "in" type: "Input" '
    text += " ".join(f'top: "{name}"' for name in names) + " input_param { "
    for shape in shapes:
        text += "shape { " + " ".join(f"dim: {d}" for d in shape) + " } "
    text += '} } layer { name: "loss" type: "Python" '
    text += " ".join(f'bottom: "{name}"' for name in names)
    text += " ".join(f' top: "loss{i}" loss_weight: {weight}' for i in range(tops))
    text += (
        f' python_param {{ module: "margin_loss" layer: "MarginLossLayer" param_str: "{p}" }} }}'
    )
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TRAIN)


def fill(net, seed=0):
    """Put scores, about half of them beyond their margin, and labels; return both."""
    random = np.random.RandomState(seed)
    t, label = net.blobs["t"], net.blobs["label"]
    t.data[...] = random.standard_normal(t.data.shape) * 2
    label.data[...] = random.randint(0, 2, label.data.shape)
    return t.data.copy(), label.data.reshape(t.data.shape).copy()


def formula(t, labels, p):
    """The loss in float64, one score after the other, and its gradient."""
    total, gradient = 0.0, np.zeros(t.shape)
    for index, score in np.ndenumerate(t.astype(np.float64)):
        y = 1.0 if labels[index] else -1.0
        lack = max(0.0, 1.0 - y * score)
        total += lack**p
        gradient[index] = -p * y * lack ** (p - 1) if lack > 0 else 0.0
    return total / len(t), gradient / len(t)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("scores", "labels"), SHAPES)
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_value_and_gradient_against_the_formula(tmp_path, scores, labels, p, weight):
    net = make_net(tmp_path, scores, labels, p, weight)
    t, y = fill(net)
    expected, gradient = formula(t, y, p)
    assert float(net.forward()["loss0"][0]) == pytest.approx(expected, rel=1e-5)
    net.backward()
    np.testing.assert_allclose(net.blobs["t"].diff, weight * gradient, rtol=1e-4, atol=1e-7)
    assert not net.blobs["label"].diff.any()


@pytest.mark.parametrize("p", [1, 2])
def test_gradient_by_finite_differences(tmp_path, p):
    net = make_net(tmp_path, (4, 6), (4, 6, 1, 1), p)
    t, y = fill(net)
    step = 0.02
    y_t = np.where(y > 0, t, -t)
    assert np.abs(1 - y_t).min() > step  # no score is at its margin, where there is a kink
    assert 0 < np.count_nonzero(y_t > 1) < t.size

    def loss(values):
        net.blobs["t"].data[...] = values
        return float(net.forward()["loss0"][0])

    loss(t)
    net.backward()
    gradient = net.blobs["t"].diff.copy()
    for index in np.ndindex(t.shape):
        up, down = t.copy(), t.copy()
        up[index] += step
        down[index] -= step
        assert (loss(up) - loss(down)) / (2 * step) == pytest.approx(gradient[index], abs=2e-4)


@pytest.mark.parametrize("p", [1, 2])
def test_a_score_at_or_beyond_its_margin_costs_nothing(tmp_path, p):
    net = make_net(tmp_path, (2, 2), (2, 2), p)
    net.blobs["label"].data[...] = [[1, 0], [0, 1]]
    net.blobs["t"].data[...] = [[1, -1], [-3, 5]]
    assert net.forward()["loss0"][0] == 0
    net.backward()
    assert not net.blobs["t"].diff.any()
    net.blobs["t"].data[0, 0] = -1  # two short of its margin
    assert net.forward()["loss0"][0] == 2**p / 2


def test_buffers_follow_a_new_batch_size_and_are_allocated_once(tmp_path):
    net = make_net(tmp_path, (4, 6), (4, 6), 2)
    for name in ("t", "label"):
        net.blobs[name].reshape(9, 6)
    net.reshape()
    t, y = fill(net)
    assert net.forward()["loss0"][0] == pytest.approx(formula(t, y, 2)[0], rel=1e-5)
    own = net.layers[list(net._layer_names).index("loss")]
    before = {name: v for name, v in vars(own).items() if isinstance(v, np.ndarray)}
    assert len(before) == 2
    for _ in range(3):
        net.forward()
        net.backward()
    assert all(vars(own)[name] is array for name, array in before.items())


@pytest.mark.parametrize(
    ("wiring", "words"),
    [
        ({"p": "3"}, "MarginLossLayer takes param_str 1 or 2, but has '3'"),
        ({"p": ""}, "MarginLossLayer takes param_str 1 or 2, but has ''"),
        ({"bottoms": 1}, "takes two bottoms, scores and labels, but has 1"),
        ({"bottoms": 3}, "takes two bottoms, scores and labels, but has 3"),
        ({"tops": 2}, "gives one top, its loss, but has 2"),
        ({"labels": (2,)}, "needs scores of shape N x L and a label for each"),
        ({"scores": (6,)}, "needs scores of shape N x L and a label for each"),
    ],
)
def test_wrong_wiring_gives_a_sentence(tmp_path, wiring, words):
    with pytest.raises(ValueError, match=words):
        make_net(tmp_path, **({"scores": (2, 3), "labels": (2, 3)} | wiring))
