"""The table of data sets: light to import, and true of the modules that it names."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep import DataError, manifest
from data_prep.datasets import DATASETS, Entry, entry_of, module_of, name_of
from data_prep.prepare import prepare

REPO = Path(__file__).resolve().parents[2]


def test_what_commands_import_is_light():
    code = (
        "import sys, data_prep.datasets, data_prep.prepare; "
        "print({'numpy', 'cv2', 'caffe', 'lmdb', 'sklearn', 'requests'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize("entry", DATASETS.values(), ids=DATASETS)
def test_an_entry_is_true_of_its_module(entry: Entry):
    module = module_of(entry.name)
    assert entry.encoding in manifest.PIXELS
    assert (REPO / "prototxt" / entry.net).is_dir()
    functions = {"load": ["listed"], "listing": ["images", "skip"]}
    functions = functions if entry.pictures else {"load": ["source"]}
    for name, arguments in functions.items():
        assert list(inspect.signature(getattr(module, name)).parameters) == arguments
    assert hasattr(module, "listing") == entry.pictures


def test_own_data_sets_are_named_after_their_folder(tmp_path):
    assert name_of("folder", tmp_path / "pets") == "folder-pets"
    assert name_of("folder", f"{tmp_path}/pets/.") == "folder-pets"
    assert name_of("sun397", tmp_path / "pets") == name_of("sun397", "") == "sun397"


def test_a_mistyped_name_is_answered_with_the_known_ones(tmp_path):
    known = ", ".join(DATASETS)
    with pytest.raises(DataError, match=f"^the data set cifar is not known; there are {known}$"):
        entry_of("cifar")
    with pytest.raises(DataError, match="the data set cifar is not known"):
        prepare(dataset="cifar", root=tmp_path, side=12, channels=3, mean="train")


def test_prepare_is_called_from_python(tmp_path, capsys):
    options = {"dataset": "digits", "root": tmp_path, "side": 12, "channels": 1, "mean": "train"}
    prepare(**options, subset=20)
    assert f"{tmp_path}/digits/12x1-20: 20 + 20 pictures in" in capsys.readouterr().out
    prepare(**options, subset=20)
    assert capsys.readouterr().out == f"{tmp_path}/digits/12x1-20 is ready\n"
