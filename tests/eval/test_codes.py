import shutil

import h5py
import numpy as np
import pytest

from eval.codes import codes_sha256, create_codes, pack_latent, read_codes
from eval.files import InputError
from tests.eval.samples import write_sample, write_several


@pytest.fixture
def path(tmp_path):
    write_sample(tmp_path / "codes.h5")
    return tmp_path / "codes.h5"


def test_reader_returns_what_the_writer_was_given(tmp_path):
    splits = write_sample(tmp_path / "codes.h5")
    codes = read_codes(tmp_path / "codes.h5")
    assert (codes.bits, codes.dataset, codes.net) == (12, "digits", "lenet")
    assert codes.net_fingerprint == "fingerprint of a test"
    assert codes.row_order == "the order of the test"
    assert codes.class_names == ["class 0", "class 1", "class 2", "class 3"]
    for name, (latent, probabilities, labels) in splits.items():
        split = getattr(codes, name)
        assert split.codes.dtype == np.uint8 and split.labels.dtype == np.int32
        np.testing.assert_array_equal(np.unpackbits(split.codes, axis=1)[:, :12], latent > 0.5)
        np.testing.assert_array_equal(split.labels, labels)
        np.testing.assert_array_equal(split.predictions, probabilities.argmax(axis=1))
        assert split.keys.tolist()[3] == f"{name}/é3".encode()


def test_file_holds_the_stated_types(path):
    with h5py.File(path) as file:
        group = file["query"]
        assert {name: group[name].dtype.str for name in group} == {
            "codes": "|u1",
            "key": "|S10",
            "labels": "<i4",
            "latent": "<f4",
            "probabilities": "<f4",
        }
        assert group["codes"].shape == (30, 2)


def test_same_content_gives_the_same_bytes(tmp_path):
    for name in ("one.h5", "two.h5"):
        write_sample(tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_half_is_zero():
    latent = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0, 1]], np.float32)
    assert pack_latent(latent).tolist() == [[0b01010000]]


def test_codes_from_elsewhere_need_codes_labels_and_bits_only(tmp_path):
    with h5py.File(tmp_path / "codes.h5", "w") as file:
        file.attrs["bits"] = 16
        for name, rows in (("database", 5), ("query", 2)):
            file[f"{name}/codes"] = np.zeros((rows, 2), np.uint8)
            file[f"{name}/labels"] = np.arange(rows, dtype=np.uint8)
    codes = read_codes(tmp_path / "codes.h5")
    assert codes.class_names == ["0", "1", "2", "3", "4"]
    assert codes.query.keys is codes.query.predictions is codes.dataset is None


def test_sha256_follows_the_content_not_the_file(path, tmp_path):
    before = codes_sha256(read_codes(path))
    copy = shutil.copy(path, tmp_path / "copy.h5")
    with h5py.File(copy, "a") as file:
        file.attrs["remark"] = "same codes"
    assert codes_sha256(read_codes(copy)) == before
    with h5py.File(copy, "a") as file:
        file["query/labels"][0] = (file["query/labels"][0] + 1) % 4
    assert codes_sha256(read_codes(copy)) != before


def spoil(dataset, row, value):
    def change(file):
        file[dataset][row] = value

    return change


def remove(name):
    def change(file):
        del file[name]

    return change


def replace(name, array):
    def change(file):
        del file[name]
        file[name] = array

    return change


def state(name, value):
    def change(file):
        file.attrs[name] = value

    return change


BAD_FILES = {
    "no bits": (lambda file: file.attrs.__delitem__("bits"), "no attribute 'bits'"),
    "zero bits": (state("bits", 0), "'bits' is 0"),
    "bits do not fit the bytes": (state("bits", 17), "2 bytes a row, but 17 bits take 3"),
    "bits set beyond the code": (state("bits", 9), "bits set beyond its 9 bits"),
    "little bit order": (state("bit_order", "little"), "bit_order is 'little'"),
    "class names too few": (state("class_names", ["a"]), "need 4 classes, but 'class_names' has 1"),
    "codes of two lengths": (
        replace("query/codes", np.zeros((30, 3), np.uint8)),
        "'/query/codes' has 3 bytes a row, but 12 bits take 2",
    ),
    "codes not packed": (replace("query/codes", np.zeros((30, 12))), "packed codes are uint8"),
    "no database": (remove("database"), "no 'database'"),
    "no codes": (remove("query/codes"), "no 'query/codes'"),
    "no labels": (remove("query/labels"), "no 'query/labels'"),
    "empty split": (replace("query/codes", np.zeros((0, 2), np.uint8)), "'/query' has no rows"),
    "labels too few": (
        replace("query/labels", np.zeros(29, np.int32)),
        "30 codes but 29 rows of 'labels'",
    ),
    "labels of two kinds": (
        replace("query/labels", np.zeros((30, 4), np.uint8)),
        "labels are one a row in 'database' and 4 of 0 and 1 in 'query'",
    ),
    "labels not integers": (replace("query/labels", np.zeros(30)), "labels are integers"),
    "labels below zero": (spoil("query/labels", 0, -1), "'/query/labels' holds -1"),
    "labels that int32 would wrap": (
        replace("query/labels", np.full(30, 2**32 + 1)),
        "'/query/labels' holds 4294967297",
    ),
    "labels of no class": (spoil("database/labels", 3, 2**31 - 2), "holds 2147483646"),
    "labels of 0, 1 and 2": (
        replace("query/labels", np.full((30, 4), 2, np.uint8)),
        "values other than 0 and 1",
    ),
    "latent not finite": (spoil("database/latent", 7, np.nan), "not finite among rows 0 to 99"),
    "latent of another shape": (
        replace("query/latent", np.zeros((30, 11), np.float32)),
        "must be float32 (30, 12)",
    ),
    "codes not latent": (spoil("query/latent", 2, 0), "'/query/codes' is not latent > 0.5"),
    "probabilities not finite": (spoil("query/probabilities", 2, np.inf), "not finite"),
    "probabilities flat": (
        replace("query/probabilities", np.zeros(30, np.float32)),
        "one column a class",
    ),
    "rows reordered": (spoil("query/key", 0, b"another"), "row_order_sha256"),
    "keys not strings": (replace("query/key", np.arange(30)), "fixed-length strings"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file_is_named_in_one_sentence(path, case):
    check_bad_file(path, *BAD_FILES[case])


def check_bad_file(path, change, message):
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError) as raised:
        read_codes(path)
    text = str(raised.value)
    assert message in text and str(path) in text and "\n" not in text


BAD_FILES_OF_SEVERAL_LABELS = {
    "labels of 0, 1 and 2": (spoil("query/labels", 3, 2), "values other than 0 and 1"),
    "other labels": (
        replace("query/labels", np.zeros((30, 5), np.uint8)),
        "'/query/probabilities' has 4 columns, but labels have 5",
    ),
    "no columns": (replace("query/labels", np.zeros((30, 0), np.uint8)), "has 0 columns"),
    "too many columns": (
        replace("query/labels", np.zeros((30, 2**16), np.uint8)),
        "has 65536 columns",
    ),
    "class names too few": (state("class_names", ["a"]), "need 4 classes, but 'class_names' has 1"),
    "no probability": (spoil("query/probabilities", 2, 1.5), "below 0 or above 1"),
    "probabilities not finite": (spoil("database/probabilities", 2, np.nan), "not finite"),
}


@pytest.mark.parametrize("case", BAD_FILES_OF_SEVERAL_LABELS)
def test_bad_file_of_several_labels_is_named_in_one_sentence(tmp_path, case):
    write_several(tmp_path / "codes.h5")
    check_bad_file(tmp_path / "codes.h5", *BAD_FILES_OF_SEVERAL_LABELS[case])


def test_several_labels_keep_the_probabilities_of_queries_alone(tmp_path):
    path = tmp_path / "codes.h5"
    splits = write_several(path)
    codes = read_codes(path)
    np.testing.assert_array_equal(codes.query.labels, splits["query"][2])
    np.testing.assert_array_equal(codes.query.probabilities, splits["query"][1])
    assert codes.query.predictions is codes.database.probabilities is None
    before = codes_sha256(codes)
    with h5py.File(path, "a") as file:
        file["query/probabilities"][0] = 0.25
    assert codes_sha256(read_codes(path)) != before


@pytest.mark.parametrize("length", [0, 100, 2000])
def test_truncated_file(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read_codes(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_codes(tmp_path / "codes.h5")


def create(path):
    return create_codes(
        path,
        bits=8,
        class_names=["a"],
        dataset="d",
        net="n",
        net_fingerprint="f",
        row_order="o",
        labels={"database": np.zeros(3, int), "query": np.zeros(2, int)},
        keys={"database": ["a", "b", "c"], "query": ["d", "e"]},
    )


def test_rows_not_written_leave_no_file(tmp_path):
    with (
        pytest.raises(ValueError, match="1 database rows were not written"),
        create(tmp_path / "codes.h5") as write,
    ):
        write("database", 0, np.zeros((2, 8), np.float32), np.ones((2, 1), np.float32))
        write("query", 0, np.zeros((2, 8), np.float32), np.ones((2, 1), np.float32))
    assert not list(tmp_path.iterdir())


def test_activations_that_are_not_finite_leave_no_file(tmp_path):
    latent = np.full((3, 8), np.nan, np.float32)
    with (
        pytest.raises(InputError, match="latent of database rows 0 to 2"),
        create(tmp_path / "codes.h5") as write,
    ):
        write("database", 0, latent, np.ones((3, 1), np.float32))
    assert not list(tmp_path.iterdir())
