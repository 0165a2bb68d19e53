"""Files among the pictures that are none: a sentence each, or left out; never a hang."""

import os
import socket
import struct
import time
import zlib

import cv2
import numpy as np
import pytest

from data_prep import DataError, files
from data_prep.files import read_regular, rename_synced, walk
from data_prep.picture import MOST_PIXELS, decode, jpeg_size
from tests.data_prep.test_folder import nothing_made


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def plug(path):
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(os.path.relpath(path))


def huge(path):
    with open(path, "wb") as file:
        file.truncate(files.MOST_BYTES + 1)


KINDS = [
    (pipe, "is a pipe, not a picture's file"),
    (endless, "is a device, not a picture's file"),
    (folder, "is a folder, not a picture's file"),
    (plug, "is a socket, not a picture's file"),
    (huge, "has 268,435,457 bytes, and a picture's file may have 256 MiB"),
]


@pytest.mark.parametrize(("make", "message"), KINDS)
def test_only_regular_files_are_read(tmp_path, monkeypatch, make, message):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x.jpg")
    with pytest.raises(DataError) as error:
        read_regular(tmp_path / "x.jpg")
    assert str(error.value) == message


def test_a_file_that_comes_in_pieces(tmp_path, monkeypatch):
    content, read = bytes(range(100)), os.read
    (tmp_path / "x.jpg").write_bytes(content)
    monkeypatch.setattr(os, "read", lambda handle, size: read(handle, min(size, 7)))
    assert read_regular(tmp_path / "x.jpg") == content


def test_a_name_with_a_nul_is_said():
    with pytest.raises(DataError, match="cannot be read: its name has a NUL"):
        read_regular("a\0.jpg")


@pytest.mark.parametrize(("make", "message"), KINDS)
def test_among_listed_pictures(
    prepare, refused, own_pictures, tmp_path, monkeypatch, make, message
):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        lines = [
            f"{path.relative_to(own_pictures)} {int(path.parent.name == 'dog')}\n"
            for path in sorted((own_pictures / split).rglob("*.png"))
        ]
        (own_pictures / f"{split}.txt").write_text("".join(lines))
    path = own_pictures / "train/cat/1.png"
    path.unlink()
    make(path)
    said = refused(prepare("folder", "--images", own_pictures))
    assert f"{path} {message}; correct the list or the file, or leave such" in said
    assert nothing_made(tmp_path)
    made = prepare("folder", "--images", own_pictures, "--skip")
    assert made.returncode == 0, made.stderr
    assert "7 + 4 pictures" in made.stdout and "1 unreadable ones were left out" in made.stdout


@pytest.mark.parametrize(("make", "message"), [KINDS[0], KINDS[1]])
def test_in_a_class_s_folder(prepare, refused, own_pictures, make, message):
    path = own_pictures / "test/dog/x.jpg"
    make(path)
    assert f"{path} {message}" in refused(prepare("folder", "--images", own_pictures))
    made = prepare("folder", "--images", own_pictures, "--skip")
    assert made.returncode == 0, made.stderr
    assert "8 + 4 pictures" in made.stdout


def test_a_folder_that_cannot_be_listed_is_said(tmp_path, monkeypatch):
    """As root every folder can: the system's refusal is put in its place."""
    (tmp_path / "cat/deep").mkdir(parents=True)
    listed = os.scandir

    def scandir(place):
        if os.fspath(place).endswith("deep"):
            raise PermissionError(13, "Permission denied", os.fspath(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="cat/deep: this folder cannot be read .Permission denied"):
        list(walk(tmp_path / "cat"))
    with pytest.raises(DataError, match="cat/deep: this folder cannot be read"):
        list(files.walk_whole(tmp_path / "cat"))


def test_a_name_that_is_a_device_s_is_not_taken(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "partial").write_text("content")
    with pytest.raises(DataError, match="pipe: is there and is no regular file"):
        rename_synced(tmp_path / "partial", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def png(width, height):
    """A PNG of one bit a pixel, all zeros: 900 million of them are 110 kB."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_pixels_are_counted_before_they_are_decoded():
    large = png(30_000, 30_000)
    began = time.process_time()
    with pytest.raises(DataError, match="has more than 178 million pixels"):
        decode(large, 3)
    assert time.process_time() - began < 1
    assert MOST_PIXELS > 10_000 * 10_000
    assert decode(png(12_000, 10), 1).shape == (10, 12_000)
    assert decode(cv2.imencode(".jpg", np.zeros((9, 7), np.uint8))[1].tobytes(), 3).shape == (
        9,
        7,
        3,
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (7, 300, 3), (300, 7, 3)])
def test_a_jpeg_s_size_is_read_from_its_frame_header(shape, progressive):
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    source = cv2.imencode(".jpg", np.zeros(shape, np.uint8), options)[1].tobytes()
    assert jpeg_size(source) == (shape[1], shape[0])
    for commented in (
        b"\xff\xfe\x00\x04ab",
        b"\xff\xe1\x00\x0b\xff\xc0\x00\x11\x08\x00\x01\x00\x01",
    ):
        assert jpeg_size(source[:2] + commented + source[2:]) == (shape[1], shape[0])


@pytest.mark.parametrize(
    "begin", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff", b"\xff\xd8\xff\x01", b"PNG"]
)
def test_what_is_not_in_the_plain_way_is_left_to_pillow(begin):
    assert jpeg_size(begin + bytes(20)) is None
