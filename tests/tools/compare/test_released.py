"""Released models: downloaded from a server on 127.0.0.1, recorded, told apart, refused."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from caffe.proto import caffe_pb2

from tests.tools.run.jobs import make_job
from tools.compare import released
from tools.run.failure import Failure


def small_caffemodel(value):
    """The bytes of a caffemodel of one layer with one weight."""
    model = caffe_pb2.NetParameter()
    blob = model.layer.add(name="fc9", type="InnerProduct").blobs.add()
    blob.shape.dim.append(1)
    blob.data.append(value)
    return model.SerializeToString()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """(folder that is served, its address); downloads go to a folder of the test's own."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setattr(released, "FOLDER", tmp_path / "released")
    handler = functools.partial(Quiet, directory=served)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield served, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def job(bits=48, method="ssdh", dataset="cifar10"):
    return make_job(BITS=str(bits), METHOD=method, DATASET=dataset, NET="alexnet")


@pytest.fixture
def offered(shelf, monkeypatch):
    """The file that a server has as the released SSDH of 48 bits."""
    served, address = shelf
    url = f"{address}/SSDH48.caffemodel?dl=1"
    key = ("cifar10", "alexnet", "ssdh", 48)
    monkeypatch.setitem(released.DOWNLOADS, key, ("SSDH48.caffemodel", url))
    return served / "SSDH48.caffemodel"


def test_downloaded_once_and_recorded(offered):
    content = small_caffemodel(1)
    offered.write_bytes(content)
    model = released.find(job(), "")
    assert model.path.read_bytes() == content
    assert model.note.startswith("downloaded from http://127.0.0.1:")
    offered.write_bytes(small_caffemodel(2))
    assert released.find(job(), "").path.read_bytes() == content  # not fetched again

    model.path.unlink()  # a later copy that differs
    with pytest.raises(Failure, match="sha256 of what came is"):
        released.find(job(), "")
    model.path.write_bytes(small_caffemodel(3))
    with pytest.raises(Failure, match="is not the file that came on"):
        released.find(job(), "")


def test_a_copy_that_was_put_there_is_recorded_and_not_verified(offered):
    path = released.FOLDER / offered.name
    path.parent.mkdir()
    path.write_bytes(small_caffemodel(1))
    assert released.find(job(), "").note == "not verified as the release"
    path.write_bytes(small_caffemodel(2))
    with pytest.raises(Failure, match="is not the file that came on"):
        released.find(job(), "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "a web page came.*RELEASED="),
        (b"", "came empty.*RELEASED="),
        (b'{"error": "rate limited"}', "is not a whole caffemodel"),
        (small_caffemodel(1)[:-3], "is not a whole caffemodel"),
    ],
)
def test_what_is_no_caffemodel_is_refused_and_forgotten(offered, content, words):
    offered.write_bytes(content)
    with pytest.raises(Failure, match=words):
        released.find(job(), "")
    assert not (released.FOLDER / offered.name).exists()
    assert not released.records()
    offered.write_bytes(small_caffemodel(1))
    assert released.find(job(), "").note.startswith("downloaded from")


def test_addresses_are_plain_downloads_of_the_two_models():
    assert {key[2:] for key in released.DOWNLOADS} == {("ssdh", 48), ("kevinnet", 48)}
    assert all(
        url.startswith("https://") and url.endswith(f"{name}?dl=1")
        for name, url in released.DOWNLOADS.values()
    )


def test_what_is_elsewhere_and_what_was_not_released(capsys):
    assert released.find(job(32, "kevinnet"), "") == (None, "not here")
    assert "MEGA and Baidu" in capsys.readouterr().out
    assert released.find(job(32), "") == (None, "not released")
    assert released.find(job(48, dataset="mnist"), "") == (None, "not released")


def test_files_of_one_s_own(tmp_path, shelf):
    for name in ("Net_12_iter_50000.caffemodel", "Net_48_iter_50000.caffemodel", "x12.prototxt"):
        (tmp_path / name).write_bytes(b"x")
    model = released.find(job(48), str(tmp_path))
    assert model == (tmp_path / "Net_48_iter_50000.caffemodel", "not verified as the release")
    assert released.find(job(50), str(tmp_path)) == (None, "not released")
    assert released.find(job(32, "kevinnet"), str(tmp_path)) == (None, "not here")
    one = tmp_path / "Net_12_iter_50000.caffemodel"
    assert released.find(job(48), str(one)).path == one  # what it holds is checked later
    (tmp_path / "Other48.caffemodel").write_bytes(b"x")
    with pytest.raises(Failure, match="several files have 48 in their name"):
        released.find(job(48), str(tmp_path))
    with pytest.raises(Failure, match="there is no such file or folder"):
        released.find(job(48), str(tmp_path / "gone"))
