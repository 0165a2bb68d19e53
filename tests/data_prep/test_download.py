"""Downloads from a real HTTP server on 127.0.0.1 that resumes, refuses, cuts and lies."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from data_prep import DataError
from data_prep.download import download

BODY = np.random.RandomState(0).bytes(500_000)
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serves BODY as the server's settings say, and keeps each request's Range header."""

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        if self.path != "/file.bin":
            self.send_error(404)
            return
        start = 0
        if server.resumes and self.headers.get("If-Range") == server.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            whole = len(server.body)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Type", server.content_type)
        self.send_header("Content-Length", str(len(server.body) - start))
        self.send_header("ETag", server.etag)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(server.body[start:cut])
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    """A server whose settings a test may change."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body, server.etag, server.resumes = BODY, '"first"', True
        server.content_type, server.cuts, server.ranges = "application/octet-stream", [], []
        server.url = f"http://127.0.0.1:{server.server_port}/file.bin"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def dead_url():
    """A URL on 127.0.0.1 where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/file.bin"


def only_file(folder):
    (path,) = folder.iterdir()
    return path.name


@pytest.mark.parametrize(
    "checksum",
    [
        None,
        SHA256,
        f"sha1:{hashlib.sha1(BODY).hexdigest()}",
        f"md5:{hashlib.md5(BODY).hexdigest()}",
    ],
)
def test_a_whole_file(server, tmp_path, checksum):
    path = tmp_path / "new" / "file.bin"
    download([server.url], path, checksum)
    assert path.read_bytes() == BODY
    assert only_file(path.parent) == "file.bin"


def test_cut_connections_are_resumed(server, tmp_path):
    server.cuts = [100_000, 300_000]
    download([server.url], tmp_path / "file.bin", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == BODY
    first, second, third = server.ranges
    assert first is None
    starts = [int(each.removeprefix("bytes=").removesuffix("-")) for each in (second, third)]
    assert 0 < starts[0] <= 100_000 < starts[1] <= 300_000


def test_a_later_call_goes_on_where_the_first_broke_off(server, tmp_path):
    server.cuts = [50_000, 100_000, 150_000, 200_000]
    with pytest.raises(DataError, match="no connection, or it broke"):
        download([server.url], tmp_path / "file.bin", SHA256)
    assert not (tmp_path / "file.bin").exists()
    download([server.url], tmp_path / "file.bin", SHA256)
    assert server.ranges[-1] not in (None, "bytes=0-")
    assert (tmp_path / "file.bin").read_bytes() == BODY
    assert only_file(tmp_path) == "file.bin"


def test_a_server_that_does_not_resume_starts_again(server, tmp_path):
    server.cuts, server.resumes = [100_000], False
    download([server.url], tmp_path / "file.bin", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == BODY
    assert len(server.ranges) == 2


def test_a_changed_file_is_never_joined_to_the_old_half(server, tmp_path):
    server.cuts = [100_000] * 4
    with pytest.raises(DataError):
        download([server.url], tmp_path / "file.bin", None)
    server.body, server.etag, server.cuts = BODY[::-1], '"second"', []
    download([server.url], tmp_path / "file.bin", None)
    assert (tmp_path / "file.bin").read_bytes() == BODY[::-1]


def test_whole_but_not_yet_named(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(BODY)
    (tmp_path / "file.bin.part.validator").write_text(server.etag)
    download([server.url], tmp_path / "file.bin", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == BODY
    assert server.ranges == ["bytes=500000-"]


def test_a_wrong_checksum_is_refused(server, tmp_path):
    server.body = BODY[:-1] + b"!"
    with pytest.raises(DataError, match=r"sha256 of what came is \w+, not \w+.*by hand"):
        download([server.url], tmp_path / "file.bin", SHA256)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "text/html", "a web page came"),
        (b"\n<HTML><title>Sign in</title>", "application/octet-stream", "a web page came"),
        (b"", "application/octet-stream", "the file came empty"),
    ],
)
def test_what_is_no_file_is_refused(server, tmp_path, body, content_type, reason):
    server.body, server.content_type = body, content_type
    with pytest.raises(DataError, match=reason):
        download([server.url], tmp_path / "file.bin", None)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_says_where_to_put_it_by_hand(server, tmp_path):
    url = server.url.replace("file.bin", "gone.bin")
    with pytest.raises(DataError) as refusal:
        download([url], tmp_path / "file.bin", SHA256)
    assert f"{url}: 404 Not Found" in str(refusal.value)
    assert f"put the file at {tmp_path / 'file.bin'} by hand" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_serves_where_the_first_is_down(server, dead_url, tmp_path):
    download([dead_url, server.url], tmp_path / "file.bin", SHA256)
    assert (tmp_path / "file.bin").read_bytes() == BODY


def test_two_processes_never_write_one_file(server, tmp_path):
    import fcntl

    with open(tmp_path / "file.bin.part", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is fetching it"):
            download([server.url], tmp_path / "file.bin", SHA256)
