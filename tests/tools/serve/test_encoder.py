"""Caffe's process by itself: what it says of pictures, of nets, and of its own start."""

from pathlib import Path

import numpy as np
import pytest

from eval.codes import read_codes
from tools.run.record import net_fingerprint, read_record
from tools.serve.encoder import Encoder
from tools.serve.limits import Refused


def test_pictures_are_encoded_or_refused_one_by_one(runs, folder_of, digit, tmp_path):
    run = folder_of(runs["digits-16"])
    fingerprint = net_fingerprint(read_record(run), run / "model.caffemodel")
    codes = read_codes(run / "codes.h5").database.codes
    encoder = Encoder(
        gpu=None,
        threads=1,
        log=tmp_path / "log",
        data_root=Path(runs["digits-16"]["--data-root"]),
        warm=(run, fingerprint),
    )
    try:
        ask = encoder.submit
        good = {
            row: ask(run, fingerprint, digit(row).read_bytes(), features=True) for row in (3, 5)
        }
        plain = ask(run, fingerprint, digit(3).read_bytes(), features=False)
        damaged = ask(run, fingerprint, b"no picture", features=True)
        other = ask(run, "another net", digit(3).read_bytes(), features=True)
        for row, future in good.items():
            outputs = future.result()
            np.testing.assert_array_equal(outputs.codes[0], codes[row])
            assert outputs.features.shape == (1, 500)
            assert outputs.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert plain.result().features is None
        with pytest.raises(Refused, match="^The picture cannot be decoded .*[.]$") as refused:
            damaged.result()
        assert refused.value.status == 422
        with pytest.raises(Refused, match="was trained again: make its index anew") as refused:
            other.result()
        assert refused.value.status == 503
        assert encoder.starts == 1
    finally:
        encoder.close()
    with pytest.raises(Refused, match="The server is stopping"):
        ask(run, fingerprint, b"", features=False)


def test_where_the_process_does_not_start_the_reason_is_said(tmp_path):
    with pytest.raises(Refused, match="no/log: No such file or directory"):
        Encoder(gpu=None, threads=1, log=tmp_path / "no" / "log", data_root=tmp_path)
