"""Whole nets by both engines of a CPU: oneDNN's layers beside BVLC's own."""

import numpy as np
import pytest

from tools.bench import engines
from tools.run import device

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("net", ["lenet", "cifar_small", "alexnet"])
def test_nets_are_the_same_by_both_engines(tmp_path, net):
    if device.build().get("engine", "caffe") == "caffe":
        pytest.skip("this Caffe was built without oneDNN")
    expected = engines.computed(net, "caffe", 0, tmp_path)
    actual = engines.computed(net, "dnnl", 0, tmp_path)
    assert list(actual) == list(expected)
    difference, name = engines.furthest(expected, actual, "blob")
    assert difference <= 1e-4, name
    difference, name = engines.furthest(expected, actual, "gradient")
    assert difference <= 2e-2 or net == "alexnet", name
    # where two numbers are all but equal, a pooling's largest may be the other one, whose gradient
    # goes to another place: in alexnet, on some processors, a few numbers, which the whole array
    # outweighs
    for name, value in expected.items():
        if name.startswith("gradient"):
            apart = np.linalg.norm(actual[name] - value)
            assert apart <= 1e-2 * np.linalg.norm(value), name
    # two engines, not one
    assert any(not np.array_equal(actual[name], value) for name, value in expected.items())
