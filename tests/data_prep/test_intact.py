"""A data folder that was damaged after it was made: one sentence, before anything maps it."""

import json
import shutil

import lmdb
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from data_prep import DataError
from data_prep.intact import records_of
from data_prep.lmdb_reader import iterate, largest_label, open_rows
from data_prep.lmdb_writer import write_lmdb
from data_prep.manifest import read_manifest
from data_prep.mean_image import to_binaryproto


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command):
    root = tmp_path_factory.mktemp("whole")
    arguments = f"digits --root {root} --side 12 --channels 3 --mean train --subset 40"
    made = command("data_prep", *arguments.split())
    assert made.returncode == 0, made.stderr
    return root / "digits/12x3-40"


@pytest.fixture
def folder(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "12x3-40")
    return tmp_path / "12x3-40"


@pytest.mark.parametrize("rows", [1, 7, 60])
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_a_whole_lmdb_says_what_it_has(tmp_path, split, rows, encoding):
    for side in (8, 64):  # records in a leaf, and on pages of their own
        write_lmdb(tmp_path / f"{side}", split(rows), side, 3, encoding, seed=1)
        assert records_of(tmp_path / f"{side}") == rows


def test_nothing_but_an_lmdb_passes(tmp_path):
    for content in (b"", b"no LMDB", bytes(20_000), b"\xff" * 20_000):
        (tmp_path / "data.mdb").write_bytes(content)
        with pytest.raises(DataError, match="not an LMDB that can be read"):
            records_of(tmp_path)


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.02])
def test_an_lmdb_cut_short_is_said_and_never_mapped(folder, kept):
    path = folder / "train_lmdb/data.mdb"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    for read in (
        lambda: read_manifest(folder),
        lambda: list(iterate(path.parent)),
        lambda: open_rows(path.parent).__enter__(),
    ):
        with pytest.raises(DataError, match=r"train_lmdb/data\.mdb: (cut short|not an LMDB)"):
            read()


def change(**fields):
    def spoil(folder):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({k: v for k, v in manifest.items() if v is not Ellipsis}))

    return spoil


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def mean_of(shape):
    return to_binaryproto(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (write("manifest.json", b"{"), "manifest.json: not JSON"),
        (write("manifest.json", b"\xff\xfe"), "manifest.json: not JSON"),
        (write("manifest.json", b"[" * 100_000), "manifest.json: not JSON"),
        (write("manifest.json", b"[]"), "'side' is missing, or is not a whole number above"),
        (change(side="12"), "'side' is missing, or is not a whole number"),
        (change(side=True), "'side' is missing, or is not a whole number"),
        (change(channels=2), "'channels' is missing, or is not 1 or 3"),
        (change(counts=...), "'counts' is missing, or is not the number of train and test"),
        (change(counts={"train": 40}), "'counts' is missing, or is not"),
        (
            change(counts={"train": 41, "test": 40}),
            "counts 41 train pictures, and the LMDB holds 4",
        ),
        (change(classes=["0", "1", "2"]), "names 3 classes, and the train pictures have 10"),
        (change(classes=[]), "'classes' is missing, or is not a list of names"),
        (change(classes=[1, 2]), "'classes' is missing, or is not a list of names"),
        (change(labels={"train": [40]}), "names 10 classes, and the train pictures have 1"),
        (change(labels=[]), "'labels' does not count the train pictures"),
        (change(sources=None), "'sources' is missing, or is not a list of files"),
        (change(sources=[{}]), "'sources' is missing, or is not a list of files"),
        (change(lmdb_sha256=7), "'lmdb_sha256' is missing, or is not"),
        (change(left_out=[]), "'left_out' is missing, or is not lists"),
        (change(signature="x"), "'signature' is missing, or is not"),
        (write("mean.binaryproto", b""), "mean.binaryproto: 0 values of shape (0, 0, 0, 0)"),
        (write("mean.binaryproto", b"no mean"), "mean.binaryproto: "),
        (write("mean.binaryproto", mean_of((3, 12, 12))[:-4]), "damaged, no mean image of Caffe"),
        (write("mean.binaryproto", mean_of((1, 12, 12))), "where the pictures' mean has 432 of"),
        (write("mean.binaryproto", mean_of((3, 28, 28))), "2,352 values of shape (1, 3, 28, 28)"),
        (
            write("mean.binaryproto", to_binaryproto(np.full((3, 12, 12), np.nan, np.float32))),
            "holds a value that is not finite",
        ),
    ],
)
def test_a_damaged_folder_is_one_sentence(prepare, refused, folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError) as error:
        read_manifest(folder)
    said = str(error.value)
    assert said.startswith(str(folder)) and message in said and "\n" not in said
    assert f"remove {folder} and make it again" in said


@pytest.mark.parametrize(
    ("key", "side", "says"),
    [
        (b"a", 2, "x_lmdb has keys that are none"),
        (b"00000001_00000001_\xff", 2, "x_lmdb has keys that are none"),
        (b"00000001_00000001_b", 3, "x_lmdb holds pictures of different sizes"),
    ],
)
def test_records_that_do_not_go_together_are_said(tmp_path, key, side, says):
    with lmdb.open(str(tmp_path / "x_lmdb")) as env, env.begin(write=True) as txn:
        for name, size in ((b"00000000_00000000_a", 2), (key, side)):
            datum = caffe_pb2.Datum(channels=1, height=size, width=size, data=bytes(size**2))
            txn.put(name, datum.SerializeToString())
    with pytest.raises(DataError, match=says), open_rows(tmp_path / "x_lmdb") as (_, read):
        read([0, 1])


def test_a_record_that_is_no_picture_is_said(tmp_path):
    with lmdb.open(str(tmp_path / "x_lmdb")) as env, env.begin(write=True) as txn:
        txn.put(b"00000000_00000000_a", b"\xff\xff")
    for read in (
        lambda: list(iterate(tmp_path / "x_lmdb")),
        lambda: largest_label(tmp_path / "x_lmdb", 5),
    ):
        with pytest.raises(DataError, match="x_lmdb holds a record that is no picture"):
            read()
    datum = caffe_pb2.Datum(channels=3, height=2, width=2, data=b"123", label=1)
    with lmdb.open(str(tmp_path / "x_lmdb")) as env, env.begin(write=True) as txn:
        txn.put(b"00000000_00000000_a", datum.SerializeToString())
    with pytest.raises(DataError, match="x_lmdb holds a record that is no picture"):
        list(iterate(tmp_path / "x_lmdb"))
    assert largest_label(tmp_path / "x_lmdb", 5) == 1
