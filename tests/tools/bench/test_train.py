"""What make bench-train says of a net's work."""

import pytest

from tools.bench import train
from tools.run.nets import net_of


def test_work_of_lenet_by_hand(tmp_path):
    net = net_of("lenet")
    data = train.make_data(net, tmp_path)
    first = 24 * 24 * 20 * 25  # conv1 of 28x28, which hands no gradient on
    others = 8 * 8 * 50 * 20 * 25 + 500 * 800 + 48 * 500 + 10 * 48
    by_hand = 2 * net.batch * (2 * first + 3 * others) / 1e9
    assert train.work_of(net, data, tmp_path) == pytest.approx(by_hand)
