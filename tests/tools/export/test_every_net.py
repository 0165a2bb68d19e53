"""The command that exports every net: a row an engine, on pieces of photographs."""

import numpy as np

from tools.export import every_net, parity
from tools.run.nets import nets


def test_rows_of_one_net(tmp_path):
    lines = list(every_net.rows(nets()["lenet"], "ssdh", tmp_path))
    cells = [line.split() for line in lines]
    assert [" ".join(line[3:-6]) for line in cells] == ["ONNX Runtime", "OpenCV DNN"]
    bits = every_net.PICTURES * every_net.BITS
    for line in cells:
        assert line[:3] == ["lenet", "ssdh", "random"]
        assert all(0 < float(figure) < parity.ALLOWED / 10 for figure in line[-6:-3])
        assert " ".join(line[-3:]) == f"0 of {bits}"


def test_pieces_are_pictures_of_any_net():
    for net in nets().values():
        found = every_net.pieces(net)
        assert found.shape == (every_net.PICTURES, net.channels, net.side, net.side)
        assert found.dtype == np.uint8 and len(np.unique(found[:, 0].std(axis=(1, 2)))) > 10
