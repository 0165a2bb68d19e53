import h5py
import numpy as np
import pytest

from eval.features import read_features, read_fingerprint
from eval.files import InputError
from tests.eval.samples import write_features


@pytest.fixture
def path(tmp_path):
    write_features(tmp_path / "features.h5")
    return tmp_path / "features.h5"


def test_reads_what_was_written(path):
    features = read_features(path)
    assert features.database.features.shape == (300, 16)
    assert features.query.labels.shape == (40,)
    assert features.query.keys[3] == b"query/3"
    assert (features.blob, features.class_names[1]) == ("ip1", "class 1")
    assert read_fingerprint(path) == features.net_fingerprint == "fingerprint of a test"


def test_reads_several_labels(tmp_path):
    write_features(tmp_path / "features.h5", several=True)
    features = read_features(tmp_path / "features.h5")
    assert features.database.labels.shape == (300, 4) and features.query.labels.max() == 1


def replace(name, values):
    def spoil(file):
        del file[name]
        if values is not None:
            file[name] = values

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (replace("query/labels", None), "has no 'query/labels'"),
        (replace("query/features", np.zeros((40, 16))), "is float64 (40, 16), but must be float32"),
        (replace("query/features", np.zeros((40, 9), "f4")), "9 in 'query'"),
        (replace("query/features", np.full((40, 16), np.nan, "f4")), "not finite"),
        (replace("database/labels", np.zeros(7, "i4")), "labels (7,)"),
        (replace("database/labels", np.zeros((300, 4), "u1")), "labels (300, 4) in 'database'"),
        (replace("database/labels", np.zeros((300, 4, 1), "u1")), "labels (300, 4, 1)"),
        (replace("query/labels", np.full((40, 4), 2, "u1")), "values other than 0 and 1"),
        (lambda file: file.attrs.__delitem__("blob"), "has no attribute 'blob'"),
    ],
)
def test_what_is_wrong_is_one_sentence(path, spoil, message):
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(InputError) as raised:
        read_features(path)
    text = str(raised.value)
    assert message in text and "\n" not in text and text.startswith(str(path))
    assert "make codes FEATURES=1" in text


def test_missing_and_truncated_files_are_named(path):
    path.write_bytes(path.read_bytes()[:2000])
    for read in (read_features, read_fingerprint):
        with pytest.raises(InputError, match="features.h5 cannot be read"):
            read(path)
    path.unlink()
    with pytest.raises(InputError, match="does not exist; run make codes FEATURES=1"):
        read_features(path)
