"""Archives of pictures that cannot be unpacked: one sentence each."""

import random
import struct
import tarfile
import zipfile

import pytest

from data_prep import DataError, cifar10


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for row in range(20):
            made.writestr(f"train/cat/{row}.png", bytes(range(256)) * 4)
    return tmp_path / "pictures.zip"


def patch(path, mark, offset, value):
    """Write a 16-bit number at an offset behind each mark of a header."""
    data = bytearray(path.read_bytes())
    place = data.find(mark)
    while place >= 0:
        data[place + offset : place + offset + 2] = struct.pack("<H", value)
        place = data.find(mark, place + 4)
    path.write_bytes(data)


def test_an_encrypted_one(archive):
    patch(archive, b"PK\x01\x02", 8, 1)
    with pytest.raises(DataError, match=r"pictures\.zip: cannot be unpacked .*encrypted"):
        cifar10.read_archive(archive)


def test_one_that_is_compressed_in_an_unknown_way(archive):
    patch(archive, b"PK\x01\x02", 10, 77)
    with pytest.raises(DataError, match=r"pictures\.zip: "):
        cifar10.read_archive(archive)


def test_one_that_would_fill_the_memory(archive, monkeypatch, tmp_path):
    with tarfile.open(tmp_path / "pictures.tar", "w") as made:
        made.add(archive, "train/cat/1.png")
    monkeypatch.setattr(cifar10, "MOST_BYTES", 100)
    for path in (archive, tmp_path / "pictures.tar"):
        with pytest.raises(DataError, match="bytes, more than 100; give CIFAR-10 alone"):
            cifar10.read_archive(path)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_any_bytes_may_be_damaged(archive, tmp_path, kind):
    path = tmp_path / f"damaged.{kind}"
    if kind != "zip":
        with tarfile.open(path, f"w:{kind.partition('.')[2]}") as made:
            for row in range(20):
                made.add(archive, f"train/cat/{row}.png")
    whole, dice = (archive if kind == "zip" else path).read_bytes(), random.Random(1)
    for _ in range(20):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 8))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data[: dice.choice((len(data), dice.randrange(len(data))))])
        try:
            cifar10.read_archive(path)
        except DataError as error:
            assert str(path) in str(error)
