"""The LMDB writer and reader: values, order, determinism, and Caffe's own view of them."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2
from hypothesis import given
from hypothesis import strategies as st

from data_prep import DataError
from data_prep.dataset import Split, subset
from data_prep.lmdb_reader import iterate, open_rows
from data_prep.lmdb_writer import estimate_bytes, write_lmdb

SIDE = 16


def expected(picture, channels):
    """Resize a picture of the fixtures by the definition: convert, then bilinear; C x H x W."""
    if picture.ndim == 2 and channels == 3:
        picture = np.stack([picture] * 3, axis=2)
    elif picture.ndim == 3 and channels == 1:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.atleast_3d(picture).transpose(2, 0, 1)


@pytest.mark.parametrize("encoding", ["raw", "png"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("source_channels", [1, 3])
def test_lossless_round_trip(tmp_path, split, encoding, channels, source_channels):
    pictures = split(11, source_channels)
    write_lmdb(tmp_path / "lmdb", pictures, SIDE, channels, encoding, seed=1)
    seen = set()
    for row, key, label, picture in iterate(tmp_path / "lmdb"):
        seen.add(row)
        assert key == pictures.keys[row]
        assert label == pictures.labels[row]
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, expected(pictures.read(row), channels))
    assert seen == set(range(11))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_round_trip_loses_what_jpeg_loses(tmp_path, split, channels):
    pictures = split(11)
    write_lmdb(tmp_path / "lmdb", pictures, SIDE, channels, "jpeg", seed=1)
    for row, _, _, picture in iterate(tmp_path / "lmdb"):
        exact = expected(pictures.read(row), channels).transpose(1, 2, 0)
        jpeg = cv2.imencode(".jpg", exact, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        lossy = np.atleast_3d(cv2.imdecode(jpeg, cv2.IMREAD_UNCHANGED))
        np.testing.assert_array_equal(picture, lossy.transpose(2, 0, 1))
        assert (lossy != exact).any()


def test_keys_hold_position_row_and_picture(tmp_path, split):
    write_lmdb(tmp_path / "lmdb", split(30), SIDE, 3, "raw", seed=5)
    with lmdb.open(str(tmp_path / "lmdb"), readonly=True) as env, env.begin() as txn:
        keys = [key.decode() for key in txn.cursor().iternext(values=False)]
    order = np.random.RandomState(5).permutation(30)
    assert keys == [f"{place:08d}_{row:08d}_train/{row:08d}" for place, row in enumerate(order)]
    np.testing.assert_array_equal([row for row, *_ in iterate(tmp_path / "lmdb")], order)
    with open_rows(tmp_path / "lmdb") as (names, _):
        assert names == [f"train/{row:08d}" for row in range(30)]


def test_rows_are_read_at_random(tmp_path, split):
    pictures = split(20)
    write_lmdb(tmp_path / "lmdb", pictures, SIDE, 3, "png", seed=2)
    with open_rows(tmp_path / "lmdb") as (keys, read):
        read_pictures, labels = read([19, 0, 7, 0])
    assert keys == pictures.keys
    np.testing.assert_array_equal(labels, pictures.labels[[19, 0, 7, 0]])
    for picture, row in zip(read_pictures, [19, 0, 7, 0], strict=True):
        np.testing.assert_array_equal(picture, expected(pictures.read(row), 3))


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_same_bytes_whatever_the_threads(tmp_path, split, encoding):
    # 1,500 pictures are two chunks of the writer at this side
    pictures = split(1500)
    digests = {
        write_lmdb(tmp_path / f"{run}", pictures, SIDE, 3, encoding, seed=3, processes=processes)
        for run, processes in enumerate((1, 2, 7, 2))
    }
    assert len(digests) == 1
    databases = {(tmp_path / f"{run}" / "data.mdb").read_bytes() for run in range(4)}
    assert len(databases) == 1
    other = write_lmdb(tmp_path / "other", pictures, SIDE, 3, encoding, seed=4)
    assert other not in digests


def test_digest_is_of_keys_and_values_in_key_order(tmp_path, split):
    from hashlib import sha256

    digest = write_lmdb(tmp_path / "lmdb", split(9), SIDE, 1, "raw", seed=3)
    with lmdb.open(str(tmp_path / "lmdb"), readonly=True) as env, env.begin() as txn:
        assert digest == sha256(b"".join(key + value for key, value in txn.cursor())).hexdigest()


@pytest.mark.parametrize(
    ("side", "encoding", "count"), [(16, "raw", 3000), (64, "raw", 400), (64, "png", 400)]
)
def test_estimated_size_is_the_file_size(tmp_path, split, side, encoding, count):
    pictures = split(count)
    estimate = estimate_bytes(pictures, side, 3, encoding)
    write_lmdb(tmp_path / "lmdb", pictures, side, 3, encoding, seed=1)
    actual = (tmp_path / "lmdb" / "data.mdb").stat().st_size
    assert actual <= estimate <= 1.1 * actual + (1 << 20)


def test_a_path_too_long_for_a_key_is_named(tmp_path, smooth):
    key = "train/" + "x" * 490
    pictures = Split([key], np.zeros(1, np.int32), lambda row: smooth(row), "here")
    with pytest.raises(DataError, match="makes a key of 514 bytes and LMDB takes 511"):
        write_lmdb(tmp_path / "lmdb", pictures, SIDE, 3, "raw", seed=1)


@given(size=st.integers(1, 500), count=st.integers(1, 600))
def test_subset_is_evenly_spaced(size, count):
    whole = Split([str(row) for row in range(size)], np.arange(size), lambda row: int(row), "")
    kept = subset(whole, count)
    rows = kept.labels
    assert len(rows) == len(kept.keys) == min(size, count)
    assert rows[0] == 0
    assert kept.keys == [str(row) for row in rows]
    assert [kept.read(index) for index in range(len(rows))] == list(rows)
    gaps = np.diff(rows)
    if len(gaps):
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


def convert_imageset(images, lines, side, channels, path):
    """Run Caffe's own tool on `path label` lines."""
    images.parent.joinpath("list.txt").write_text("".join(f"{line}\n" for line in lines))
    binary = Path(find_spec("caffe").origin).parents[2] / "bin/convert_imageset"
    options = [f"--resize_width={side}", f"--resize_height={side}"]
    options += ["--gray"] if channels == 1 else []
    command = [binary, *options, f"{images}/", images.parent / "list.txt", path]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [20, 48])
def test_datums_equal_convert_imagesets(tmp_path, smooth, channels, side):
    images = tmp_path / "images"
    images.mkdir()
    alpha = np.dstack([smooth(3), smooth(4, channels=1)])
    for name, picture in (
        ("colour.png", smooth(1)),
        ("grey.png", smooth(2, channels=1)),
        ("transparent.png", alpha),
        ("deep.png", smooth(5).astype(np.uint16) * 257),
        ("colour.jpg", smooth(6, 40, 60)),
        ("grey.jpg", smooth(7, 40, 60, channels=1)),
        ("colour.bmp", smooth(8)),
    ):
        assert cv2.imwrite(str(images / name), picture)
    names = sorted(path.name for path in images.iterdir())
    pictures = Split(
        names, np.arange(7, dtype=np.int32), lambda row: (images / names[row]).read_bytes(), images
    )
    write_lmdb(tmp_path / "ours", pictures, side, channels, "raw", seed=1)
    lines = [f"{names[row]} {row}" for row, *_ in iterate(tmp_path / "ours")]
    convert_imageset(images, lines, side, channels, tmp_path / "caffes")
    values = []
    for name in ("ours", "caffes"):
        with lmdb.open(str(tmp_path / name), readonly=True) as env, env.begin() as txn:
            values.append([value for _, value in txn.cursor()])
    assert values[0] == values[1]


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_caffes_data_layer_sees_what_the_reader_sees(tmp_path, split, encoding, channels):
    import caffe

    write_lmdb(tmp_path / "lmdb", split(6), SIDE, channels, encoding, seed=1)
    spec = caffe.NetSpec()
    spec.data, spec.label = caffe.layers.Data(
        source=str(tmp_path / "lmdb"), backend=caffe.params.Data.LMDB, batch_size=6, ntop=2
    )
    (tmp_path / "net.prototxt").write_text(str(spec.to_proto()))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.forward()
    _, _, labels, pictures = zip(*iterate(tmp_path / "lmdb"), strict=True)
    np.testing.assert_array_equal(net.blobs["data"].data, np.stack(pictures))
    np.testing.assert_array_equal(net.blobs["label"].data, labels)


def test_encoded_datums_say_so(tmp_path, split):
    write_lmdb(tmp_path / "lmdb", split(1), SIDE, 3, "png", seed=1)
    with lmdb.open(str(tmp_path / "lmdb"), readonly=True) as env, env.begin() as txn:
        ((_, value),) = txn.cursor()
    datum = caffe_pb2.Datum.FromString(value)
    assert datum.encoded
    assert datum.data.startswith(b"\x89PNG")


def test_what_is_no_lmdb_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: not an LMDB that can be read"):
        list(iterate(tmp_path / "nowhere"))
