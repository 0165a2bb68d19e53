"""The page's uploads: bounded by number and bytes for each address, and gone with the server."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.serve import uploads as module
from tools.serve.limits import Refused
from tools.serve.uploads import Uploads, open_folder


@pytest.fixture
def uploads(tmp_path):
    """An empty folder of uploads."""
    return Uploads(tmp_path)


@pytest.fixture
def add(finish):
    """Upload a file; return its path."""
    return lambda uploads, peer, content: finish(uploads.add(peer, "a.png", content))


def test_who_uploads_much_loses_the_oldest_of_its_own(uploads, add, monkeypatch):
    monkeypatch.setattr(module, "PEER_UPLOADS", 5)
    monkeypatch.setattr(module, "PEER_UPLOADS_BYTES", 1000)
    honest = add(uploads, "honest", b"x" * 900)
    paths = [add(uploads, "flood", b"%d" % number) for number in range(20)]
    assert list(uploads.files) == [honest, *paths[-5:]]
    large = [add(uploads, "flood", bytes([number]) * 400) for number in range(4)]
    assert list(uploads.files) == [honest, *large[-2:]]
    assert {str(path) for path in uploads.folder.rglob("*") if path.is_file()} == set(uploads.files)
    assert uploads.size == 900 + 800
    assert uploads.shares == {"honest": [1, 900], "flood": [2, 800]}


def test_all_together_are_bounded_by_the_largest_shares(uploads, add, monkeypatch):
    monkeypatch.setattr(module, "UPLOADS_BYTES", 1000)
    small = add(uploads, "a", b"x" * 100)
    add(uploads, "b", b"x" * 600)
    kept = add(uploads, "c", b"x" * 500)
    assert list(uploads.files) == [small, kept]


def test_a_picture_is_kept_for_a_time_and_counted_once(uploads, add, monkeypatch):
    path = add(uploads, "a", b"x")
    assert add(uploads, "a", b"x") == path
    assert add(uploads, "b", b"x") != path
    assert (len(uploads.files), uploads.size) == (2, 2)
    clock = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: clock + 301)
    uploads.expire()
    assert not uploads.files
    assert not os.path.exists(path)
    assert uploads.gave(path)
    assert not uploads.gave("/etc/passwd")


def test_a_disk_that_does_not_take_a_picture_is_an_answer(tmp_path, finish):
    uploads = Uploads(tmp_path / "gone")
    with pytest.raises(Refused, match="cannot keep the picture: No such file or directory"):
        finish(uploads.add("1.2.3.4", "a.png", b"x"))
    assert uploads.size == 0 and not uploads.files


def test_what_a_killed_server_left_is_removed_by_the_next_one(tmp_path, monkeypatch):
    held = (
        "from tools.serve.uploads import open_folder\n"
        "with open_folder() as folder:\n"
        "    (folder / 'picture').write_bytes(b'x'); print(folder, flush=True); input()"
    )
    dead, living = (
        subprocess.Popen(
            [sys.executable, "-c", held],
            env=os.environ | {"TMPDIR": str(tmp_path)},
            cwd=Path(__file__).resolve().parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    folders = [Path(each.stdout.readline().strip()) for each in (dead, living)]
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert folders[0].is_dir()
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    with open_folder() as own:
        assert set(tmp_path.iterdir()) == {folders[1], own}
    living.communicate("\n")
    assert not list(tmp_path.iterdir())
