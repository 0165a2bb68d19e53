"""Which runs are served: the one that is named, and those beside it that can be searched."""

import shutil
from contextlib import ExitStack

import numpy as np
import pytest

from tools.run.failure import Failure
from tools.search.index import add, create, open_index
from tools.serve.encoding import Encoded
from tools.serve.page import show
from tools.serve.runs import first_of_each, open_runs
from tools.serve.schema import Answer, Class
from tools.serve.service import answer_of


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


def test_all_labels_of_a_picture_are_answered_and_shown(several, data_root):
    """All that are likely are said of the query; a category is one of several labels."""
    index = create(several)
    with ExitStack() as files:
        run = open_runs(several, data_root, files)[several.name]
        probabilities = np.linspace(0.3, 0.93, 10, dtype=np.float32)[None]  # seven above a half
        latent = np.unpackbits(index.codes[:1], axis=1)[:, : index.bits].astype(np.float32)
        outputs = Encoded(latent, probabilities, None)
        answer = answer_of(run, outputs, top=50, category="3", radius=None)
    assert [one.name for one in answer.classes] == list("9876543")
    assert all("3" in one.labels for one in answer.neighbours)
    two = next(one for one in answer.neighbours if len(one.labels) == 2)
    assert two.label == ", ".join(two.labels) == ", ".join(index.label_names(two.row))
    html = show(answer)
    assert f"<b>{two.label}</b>" in html and f"alt='{two.label}'" in html
    assert "9, 8, 7, 6, 5, 4, 3, 50 neighbours" in html


def test_examples_have_the_first_picture_of_each_label():
    assert first_of_each(np.array([4, 2, 4, 0])).tolist() == [3, 1, 0]
    rows = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1]], np.uint8)
    assert first_of_each(rows).tolist() == [1, 0, 2]


def test_the_page_shows_no_classes_where_the_net_has_no_classifier():
    found = {"run": "run", "bits": 8, "code": "01010101", "category": None, "radius": None}
    found |= {"hint": None, "neighbours": [], "milliseconds": 1}
    without = show(Answer(classes=[], **found))
    assert "Predicted classes" not in without and "0 neighbours" in without
    cat = show(Answer(classes=[Class(name="cat", probability=1)], **found))
    assert "Predicted classes" in cat and "cat, 0 neighbours" in cat
