"""gpu-check, as far as a machine without a GPU can tell: the CPU stands on both sides."""

import re
from pathlib import Path

import caffe
import numpy as np
import pytest

from eval.tables import METHODS
from tools.run import device
from tools.run.nets import net_of, nets
from tools.setup import gpu_layers
from tools.setup.gpu_facts import fits
from tools.setup.gpu_layers import (
    FORWARD_ONLY,
    TOLERANCE,
    compare,
    data_layers,
    difference,
    dropout_is_right,
    run_layer,
    single_layers,
)
from tools.setup.gpu_training import train_steps

REPO = Path(__file__).resolve().parents[3]
LAYER_TYPE = re.compile(r'^(?:layer \{ name: "[^"]+" |  )type: "(\w+)"', re.MULTILINE)


@pytest.mark.parametrize(
    ("capability", "how"),
    [
        ("6.0", "machine code for 6.0"),
        ("6.2", "machine code for 6.1"),
        ("8.6", "machine code for 8.6"),
        ("8.7", "machine code for 8.6"),
        ("10.0", "PTX of 9.0, compiled by the driver on the first run (minutes)"),
        ("5.2", None),
        ("7.0", None),
    ],
)
def test_which_gpus_a_build_fits(capability, how):
    assert fits(*map(int, capability.split(".")), [60, 61, 80, 86, 90], 90) == how


def test_without_a_gpu_it_says_so(command):
    if device.gpus():
        pytest.skip("there is a GPU")
    done = command("tools.setup.gpu_check")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no GPU is visible here")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def all_layers():
    return list(single_layers())


@pytest.fixture(scope="module")
def layers(all_layers):
    """Those of lenet and cifar_small: the other nets are too large for a quick test."""
    return [(net, param) for net, param in all_layers if net in ("lenet", "cifar_small")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return list(data_layers(tmp_path_factory.mktemp("pictures")))


def test_every_layer_type_of_the_nets_is_tried(all_layers, data):
    """Of every net with one method, and of every method on one net."""
    tried = {param.layer[-1].type for _, param in (*all_layers, *data)}
    folders = (*nets(), *(f"heads/{method}" for method in METHODS))
    paths = [path for name in folders for path in (REPO / "prototxt" / name).glob("*.prototxt")]
    texts = [path.read_text() for path in (*paths, REPO / "prototxt/heads/accuracy.prototxt")]
    used = {kind for text in texts for kind in LAYER_TYPE.findall(text)}
    by_placeholders = {"SoftmaxWithLoss", "Softmax"}
    assert tried == (used - {"Input", "Silence"}) | by_placeholders


def test_data_layers_read_the_same_pictures_each_time(data):
    """Also where they are cropped and mirrored at random: the seed is the same."""
    assert {net for net, _ in data} == set(nets())
    for net, param in data:
        first, again = run_layer(param, None), run_layer(param, None)
        assert set(first) == {"output data", "output label"}
        assert all(first[what].std() > 0 for what in first), net
        assert all(difference(first[what], again[what]) == 0 for what in first), net


def test_what_differs_is_named(layers, monkeypatch, capsys):
    """The CPU on both sides, one of which is wrong in one layer type."""
    chosen = [pair for pair in layers if pair[0] == "lenet"]
    assert compare(None, chosen) == []
    right = gpu_layers.run_layer

    def wrong(param, gpu):
        result = right(param, gpu)
        if gpu == 0 and param.layer[-1].type == "ReLU":
            result = {what: array * np.float32(1.01) for what, array in result.items()}
        return result

    monkeypatch.setattr(gpu_layers, "run_layer", wrong)
    monkeypatch.setattr(gpu_layers.device, "activate", lambda _: caffe.set_mode_cpu())
    found = compare(0, chosen)
    assert found and all("(ReLU)" in sentence and "lenet/" in sentence for sentence in found)
    assert "ReLU" in capsys.readouterr().out


def test_every_layer_gives_outputs_and_gradients(layers):
    for net, param in layers:
        layer, result = param.layer[-1], run_layer(param, None)
        assert all(np.isfinite(array).all() for array in result.values()), (net, layer.name)
        outputs = [np.abs(array).max() for what, array in result.items() if "output" in what]
        assert all(outputs) or layer.type == "Accuracy"
        if layer.type not in FORWARD_ONLY:
            first = next(array for what, array in result.items() if "gradient" in what)
            assert np.abs(first).max() > 0, (net, layer.name)


def test_a_wrong_result_is_found(layers):
    param = next(param for _, param in layers if param.layer[-1].type == "InnerProduct")
    right = run_layer(param, None)
    assert max(difference(right[what], run_layer(param, None)[what]) for what in right) == 0
    for what, array in right.items():
        wrong = array.copy()
        wrong.flat[np.abs(array).argmax()] *= 1 + 2 * TOLERANCE
        assert difference(array, wrong) > TOLERANCE, what
    wrong[...] = np.nan
    assert not difference(array, wrong) <= TOLERANCE


def test_dropout_is_judged_by_what_it_keeps(all_layers):
    param = next(
        param
        for _, param in all_layers
        if param.layer[-1].type == "Dropout" and param.state.phase == caffe.TRAIN
    )
    result = run_layer(param, None)
    assert dropout_is_right(param, result)
    output, gradient = result
    assert not dropout_is_right(param, result | {gradient: result[gradient][::-1]})
    assert not dropout_is_right(param, {name: np.ones((4, 4096)) for name in result})


def test_a_training_step_learns():
    speed, before, after = train_steps(net_of("lenet"), None, 10)
    assert speed > 0
    assert after < before
