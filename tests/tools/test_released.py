"""Released models: downloaded from a server on 127.0.0.1, recorded, told apart, refused."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools import released


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
    return {"dataset": dataset, "net": "alexnet", "method": method, "bits": bits}


def test_downloaded_once_and_recorded(shelf, monkeypatch):
    served, address = shelf
    (served / "SSDH48.caffemodel").write_bytes(b"weights")
    url = f"{address}/SSDH48.caffemodel?dl=1"
    key = ("cifar10", "alexnet", "ssdh", 48)
    monkeypatch.setitem(released.DOWNLOADS, key, ("SSDH48.caffemodel", url))
    model = released.find(job(), "")
    assert model.path.read_bytes() == b"weights"
    assert model.note.startswith(f"downloaded from {url} on ")
    (served / "SSDH48.caffemodel").write_bytes(b"other weights")
    assert released.find(job(), "").path.read_bytes() == b"weights"  # not fetched again

    model.path.unlink()  # a later copy that differs
    with pytest.raises(SystemExit, match="sha256 of what came is"):
        released.find(job(), "")
    model.path.write_bytes(b"tampered")
    with pytest.raises(SystemExit, match="is not the file that was downloaded on"):
        released.find(job(), "")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"<!DOCTYPE html><html>", "a web page came"), (b"", "came empty")],
)
def test_what_is_no_file_is_refused(shelf, monkeypatch, content, words):
    served, address = shelf
    (served / "page").write_bytes(content)
    key = ("cifar10", "alexnet", "kevinnet", 48)
    monkeypatch.setitem(released.DOWNLOADS, key, ("K.caffemodel", f"{address}/page"))
    with pytest.raises(SystemExit, match=f"{words}.*RELEASED="):
        released.find(job(method="kevinnet"), "")
    assert not (released.FOLDER / "K.caffemodel").exists()
    assert not released.records()


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
    assert released.find(job(50), str(tmp_path)).path is None
    assert released.find(job(50), str(tmp_path)).note.startswith("not in RELEASED=")
    one = tmp_path / "Net_12_iter_50000.caffemodel"
    assert released.find(job(48), str(one)).path == one  # what it holds is checked later
    (tmp_path / "Other48.caffemodel").write_bytes(b"x")
    with pytest.raises(SystemExit, match="several files have 48 in their name"):
        released.find(job(48), str(tmp_path))
    with pytest.raises(SystemExit, match="there is no such file or folder"):
        released.find(job(48), str(tmp_path / "gone"))
