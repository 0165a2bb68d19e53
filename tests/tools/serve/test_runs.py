"""Which runs are served: the one that is named, and those beside it that can be searched."""

import shutil
from contextlib import ExitStack

import numpy as np
import pytest

from tools.run.failure import Failure
from tools.search.index import add, open_index
from tools.serve.page import show
from tools.serve.runs import open_runs
from tools.serve.schema import Answer, Class


@pytest.fixture
def folder(runs, folder_of, tmp_path):
    """The folder of a run that can be searched, alone in its folder of runs."""
    shutil.copytree(folder_of(runs["digits-16"]), tmp_path / "digits-16")
    return tmp_path / "digits-16"


def test_a_damaged_run_beside_is_left_out_and_named(folder, data_root, tmp_path, caplog):
    for name in ("damaged", "untrained"):
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "damaged" / "run.json").write_text("{")
    (tmp_path / "untrained" / "model.caffemodel").unlink()
    with ExitStack() as files:
        assert list(open_runs(folder, data_root, files)) == ["digits-16"]
    assert f"{tmp_path}/damaged is left out: {tmp_path}/damaged/run.json is no JSON" in caplog.text
    assert "untrained/model.caffemodel does not exist: run 'make train'" in caplog.text


def test_a_run_of_other_data_is_refused(folder, data_root, tmp_path):
    (tmp_path / "other" / "digits").mkdir(parents=True)
    data = tmp_path / "other" / "digits" / "28x1"
    shutil.copytree(data_root / "digits" / "28x1", data)
    shutil.rmtree(data / "train_lmdb")
    shutil.copytree(data / "test_lmdb", data / "train_lmdb")
    with ExitStack() as files, pytest.raises(Failure, match="is not the data that .* codes are of"):
        open_runs(folder, tmp_path / "other", files)


def test_an_added_picture_is_shown_without_its_path_on_the_server(folder, data_root):
    index = open_index(folder)
    one = {name: getattr(index, name)[:1] for name in ("codes", "probabilities", "features")}
    pixels = np.zeros((1, 1, 28, 28), np.uint8)
    add(folder, ["/home/somebody/holiday/a.png"], label=3, pictures=pixels, **one)
    with ExitStack() as files:
        run = open_runs(folder, data_root, files)["digits-16"]
        assert run.shown_key(len(run.index.keys) - 1) == "a.png"
        assert run.shown_key(0) == index.keys[0].decode()
        assert len(run.examples) == run.info.examples == 8
        assert run.info.index == "flat"


def test_the_page_shows_no_classes_where_the_net_has_no_classifier():
    found = {"run": "run", "bits": 8, "code": "01010101", "category": None, "radius": None}
    found |= {"hint": None, "neighbours": [], "milliseconds": 1}
    without = show(Answer(classes=[], **found))
    assert "Predicted classes" not in without and "0 neighbours" in without
    cat = show(Answer(classes=[Class(name="cat", probability=1)], **found))
    assert "Predicted classes" in cat and "cat, 0 neighbours" in cat
