"""Caffe's process by itself: what it says of pictures, of nets, and of its own start."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from eval.codes import read_codes
from tools.net.preprocess import read_picture
from tools.run.nets import net_of
from tools.run.record import net_fingerprint, read_record
from tools.serve import picture
from tools.serve.decoder import Decoder
from tools.serve.encoder import Encoder
from tools.serve.encoding import is_negative
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
    with pytest.raises(Refused, match="Is a directory"):
        Encoder(gpu=None, threads=1, log=tmp_path, data_root=tmp_path)


def test_a_process_that_cannot_start_is_an_answer_and_comes_back(runs, folder_of, digit, tmp_path):
    """The folder of its log is gone when Caffe dies; the thread lives on until it is back."""
    run = folder_of(runs["digits-16"])
    fingerprint = net_fingerprint(read_record(run), run / "model.caffemodel")
    (tmp_path / "logs").mkdir()
    data_root = Path(runs["digits-16"]["--data-root"])
    encoder = Encoder(gpu=None, threads=1, log=tmp_path / "logs" / "log", data_root=data_root)

    def ask():
        return encoder.submit(run, fingerprint, digit(3).read_bytes(), features=False).result(60)

    try:
        assert ask().probabilities.shape == (1, 10)
        (tmp_path / "logs").rename(tmp_path / "gone")
        encoder.worker.child.process.kill()
        encoder.worker.child.process.wait()
        for _ in range(2):  # the second one at once: it is not tried again so soon
            with pytest.raises(Refused, match="logs/log: No such file|does not start") as refused:
                ask()
            assert refused.value.status == 503
        assert encoder.thread.is_alive()
        (tmp_path / "gone").rename(tmp_path / "logs")
        encoder.worker.failed = 0
        assert ask().probabilities.shape == (1, 10)
        assert encoder.starts == 2
    finally:
        encoder.close()


def test_a_picture_that_takes_long_is_ended_and_the_next_one_decoded(tmp_path, digit, finish):
    net = net_of("lenet")
    pixels, progressive = np.zeros((7000, 7000, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    slow = cv2.imencode(".jpg", pixels, progressive)[1].tobytes()  # a second, or so
    decoder = Decoder(tmp_path / "log", seconds=0.15)
    try:
        with pytest.raises(Refused, match="takes too long to decode") as refused:
            finish(decoder.decode(slow, net))
        assert refused.value.status == 413
        pixels = finish(decoder.decode(digit(3).read_bytes(), net))
        assert pixels.shape == (1, 28, 28)
        with pytest.raises(Refused, match="cannot be decoded"):
            finish(decoder.decode(b"no picture", net))
        assert decoder.worker.starts == 2
    finally:
        decoder.close()


def test_transparency_lies_on_white_and_nothing_else_changes():
    net = net_of("lenet")
    ink = np.zeros((28, 28, 4), np.uint8)
    ink[10:20, 10:20, 3] = 255
    pixels = picture.read(cv2.imencode(".png", ink)[1].tobytes(), net)
    assert pixels[0, 0, 0] == 255
    assert pixels[0, 15, 15] == 0
    ink[..., 3] = 255
    ink[..., :3] = np.random.default_rng(0).integers(0, 255, (28, 28, 3))
    content = cv2.imencode(".png", ink)[1].tobytes()
    np.testing.assert_array_equal(picture.read(content, net), read_picture(content, net))


def test_a_negative_is_told_from_pictures_that_are_merely_bright():
    assert is_negative(220, 33)
    assert not is_negative(60, 33)
    assert not is_negative(240, 120)
    assert is_negative(20, 230)
