"""The data folder: complete or absent, resumed, and never another one than was asked for."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from caffe.proto import caffe_pb2

import data_prep.prepare
from data_prep import __main__
from data_prep.files import write_synced
from data_prep.lmdb_reader import iterate, open_rows

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def small_root(tmp_path_factory, command):
    """A data root with digits/12x3-20, made once."""
    root = tmp_path_factory.mktemp("small")
    arguments = f"digits --root {root} --side 12 --channels 3 --mean train --subset 20"
    made = command("data_prep", *arguments.split())
    assert made.returncode == 0, made.stderr
    return root


@pytest.fixture
def small(small_root, tmp_path):
    """A copy of digits/12x3-20 of one's own, where `prepare` looks for it."""
    shutil.copytree(small_root, tmp_path / "data")
    return tmp_path / "data/digits/12x3-20"


def wait_for(path, process):
    """Wait until a running build has come as far as path."""
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)


def read_mean(path):
    blob = caffe_pb2.BlobProto.FromString(path.read_bytes())
    return np.array(blob.data, np.float32).reshape(blob.num, blob.channels, blob.height, blob.width)


def test_digits(prepare_process, tmp_path):
    made = prepare_process("digits", side=28, channels=1)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "data/digits/28x1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "mean.binaryproto",
        "test_lmdb",
        "train_lmdb",
    ]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == {"train": 1442, "test": 355}
    assert manifest["classes"] == [str(digit) for digit in range(10)]
    for split in ("train", "test"):
        rows = [row for row, *_ in iterate(folder / f"{split}_lmdb")]
        assert rows != sorted(rows)
        with open_rows(folder / f"{split}_lmdb") as (keys, _):
            order = "\n".join(keys).encode()
        assert manifest["row_order_sha256"][split] == hashlib.sha256(order).hexdigest()
    pictures = [picture for *_, picture in iterate(folder / "train_lmdb")]
    mean = read_mean(folder / "mean.binaryproto")
    assert mean.shape == (1, 1, 28, 28)
    np.testing.assert_array_equal(mean[0], np.mean(pictures, axis=0).astype(np.float32))


def test_the_same_settings_make_the_same_folder(prepare, small, tmp_path):
    assert prepare("digits", "--root", tmp_path / "again", "--subset", 20).returncode == 0
    again = tmp_path / "again/digits/12x3-20"
    for name in ("manifest.json", "mean.binaryproto", "train_lmdb/data.mdb", "test_lmdb/data.mdb"):
        assert (again / name).read_bytes() == (small / name).read_bytes()


def test_train_mean_is_compute_image_means(small, tmp_path):
    binary = Path(find_spec("caffe").origin).parents[2] / "bin/compute_image_mean"
    command = [binary, small / "train_lmdb", tmp_path / "mean.binaryproto"]
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(
        read_mean(small / "mean.binaryproto"), read_mean(tmp_path / "mean.binaryproto")
    )


def test_imagenet_mean(prepare, tmp_path):
    made = prepare("digits", "--subset", 10, side=256, mean="imagenet")
    assert made.returncode == 0, made.stderr
    mean = read_mean(tmp_path / "data/digits/256x3-10/mean.binaryproto")
    assert mean.shape == (1, 3, 256, 256)
    # the channel means that Caffe's own ImageNet examples subtract, BGR
    np.testing.assert_allclose(mean.mean(axis=(0, 2, 3)), [104.007, 116.669, 122.679], atol=1e-3)


def test_a_grey_mean_is_127_at_any_size(prepare, tmp_path):
    made = prepare("digits", "--subset", 10, side=40, mean="grey")
    assert made.returncode == 0, made.stderr
    mean = read_mean(tmp_path / "data/digits/40x3-10/mean.binaryproto")
    assert mean.shape == (1, 3, 40, 40) and (mean == 127).all()


def test_imagenet_mean_of_another_shape(prepare, refused, tmp_path):
    message = refused(prepare("digits", mean="imagenet"))
    assert "use --side 256 --channels 3, or --mean train" in message
    assert list((tmp_path / "data/digits").iterdir()) == []


def test_a_second_call_is_done_at_once(small, tmp_path):
    code = (
        "import sys; from data_prep.__main__ import main; code = main(); "
        "assert not {'cv2', 'caffe', 'sklearn', 'lmdb', 'numpy'} & set(sys.modules); sys.exit(code)"
    )
    arguments = f"digits --root {tmp_path / 'data'} --side 12 --channels 3 --mean train --subset 20"
    again = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], cwd=REPO, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"{small} is ready\n"


def test_another_encoding_never_passes_for_it(prepare, refused, small):
    before = (small / "manifest.json").read_bytes()
    said = refused(prepare("digits", "--subset", 20, "--encoding", "png"))
    assert f"{small} was made with encoding raw, and png is asked for; remove the folder" in said
    assert (small / "manifest.json").read_bytes() == before


def test_another_mean_never_passes_for_it(prepare, refused, small):
    message = refused(prepare("digits", "--subset", 20, mean="imagenet"))
    assert f"{small} was made with mean train, and imagenet is asked for" in message


def test_unstated_settings_take_what_is_there(prepare):
    assert prepare("digits", "--subset", 20, "--encoding", "png").returncode == 0
    assert prepare("digits", "--subset", 20).returncode == 0


@pytest.mark.parametrize("lost", ["train_lmdb/data.mdb", "mean.binaryproto", "manifest.json"])
def test_a_folder_that_lost_a_file(prepare, refused, small, lost):
    (small / lost).unlink()
    message = refused(prepare("digits", "--subset", 20))
    assert f"12x3-20: {lost} is missing; remove the folder and make it again" in message


def test_interrupt(start, tmp_path):
    process = start()
    wait_for(tmp_path / "data/digits/.128x3.partial/train_lmdb/data.mdb", process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "interrupted; the same command goes on" in stderr
    assert not (tmp_path / "data/digits/128x3").exists()


def test_two_builds_at_once_take_turns(start, tmp_path):
    folder = tmp_path / "data/digits"
    folder.mkdir(parents=True)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    processes = [start(), start()]
    for process in processes:
        assert (
            process.stdout.readline() == f"Another process is preparing {folder}; waiting for it\n"
        )
    os.close(held)
    ready, made = sorted((process.communicate()[0] for process in processes), key=len)
    assert [process.returncode for process in processes] == [0, 0]
    assert ready == f"{folder / '128x3'} is ready\n"
    assert "1442 + 355 pictures in" in made


def test_too_small_a_disk(prepare, refused, tmp_path):
    message = refused(prepare("digits", side=30_000))
    assert f"{tmp_path / 'data/digits'}: the LMDBs need 48" in message  # 4.85 TB
    assert "GB are free; free some, use another data root" in message
    assert list((tmp_path / "data/digits").iterdir()) == []


def test_a_disk_that_fills_up(tmp_path):
    # a limit on a file's size stands in for it: the same write fails in the middle
    command = f"ulimit -f 500; exec '{sys.executable}' -m data_prep digits --root '{tmp_path}/data'"
    command += " --side 64 --channels 3 --mean train"
    process = subprocess.run(["bash", "-c", command], cwd=REPO, capture_output=True, text=True)
    assert process.returncode == 1
    assert ".64x3.partial/train_lmdb: mdb_txn_commit: " in process.stderr
    assert process.stderr.endswith("; free some space or mend the disk, or use another data root\n")
    assert process.stderr.count("\n") == 1
    assert list((tmp_path / "data/digits").iterdir()) == []


def test_a_root_that_cannot_be_written(prepare, refused, tmp_path):
    (tmp_path / "data").write_text("a file")
    message = refused(prepare("digits"))
    assert f"{tmp_path / 'data/digits'}: Not a directory" in message


def test_a_disk_that_is_full(monkeypatch, capsys):
    # a write that fails has no file name
    monkeypatch.setattr(
        data_prep.prepare, "only_one", lambda folder: write_synced(Path("/dev/full"), b"x")
    )
    arguments = "data_prep digits --root some/where --side 12 --channels 3 --mean train"
    monkeypatch.setattr(sys, "argv", arguments.split())
    assert __main__.main() == 1
    assert capsys.readouterr().err == (
        "data_prep: some/where: No space left on device; free some space, or use another data "
        "root\n"
    )


def test_arguments_that_make_no_sense(prepare):
    for dataset, arguments, sentence in (
        ("digits", ["--subset", 0], "subset 0 is not above zero"),
        ("digits", ["--images", "x"], "digits takes no folder of pictures; only "),
        ("digits", ["--cifar10-archive", "x"], "digits is read from no archive; only cifar10"),
        ("digits", ["--encoding", "gif"], "encoding gif is not known; there are raw, png, jpeg"),
        ("digits", ["--mean", "0"], "mean 0 is not known; there are train, imagenet, grey"),
        ("digits", ["--channels", 2], "channels 2 is not known; there are 1, 3"),
        ("folder", [], "folder is made of a folder of pictures; name it (IMAGES=, --images)"),
        ("cifar", [], "the data set cifar is not known; there are mnist, "),
    ):
        process = prepare(dataset, *arguments)
        assert process.returncode == 2
        assert process.stderr.startswith(f"data_prep: {sentence}")
        assert process.stderr.count("\n") == 1
