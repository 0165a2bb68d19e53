"""The bench of the LMDB writer, on a few pictures."""

import numpy as np

from tools.bench import data


def test_the_writer_and_convert_imageset_make_the_same_datums(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "ALTERNATIONS", 1)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    split = data.generated(pictures, 30)
    assert split.labels.tolist() == (np.arange(30) % 10).tolist()
    for side in data.PICTURES:
        data.bench(split, side, tmp_path)
    assert capsys.readouterr().out.count("all 30 Datums are equal byte by byte") == 2
