"""Several labels a picture: lists of one's own, the LMDB beside the pictures', what is refused."""

import json
import shutil

import cv2
import lmdb
import numpy as np
import pytest

from data_prep import DataError, build, dataset, folder, labels, lmdb_reader
from data_prep.lmdb_reader import iterate, open_rows, record_keys
from tools.run import data as data_of_run

CLASSES = ["sky", "traffic light", "sea"]
LISTS = {  # of own_pictures' paths, by split: numbers, or names
    "train": {
        "cat/0": "0 2",
        "cat/1": "sky,traffic light",
        "cat/2": "2",
        "cat/3": "sea",
        "dog/0": "0 1 2",
        "dog/1": "1",
        "dog/2": "traffic light , sea",
        "dog/3": "0",
    },
    "test": {"cat/0": "0,1", "cat/1": "1 2", "dog/0": "sky", "dog/1": "2 0"},
}
NUMBERS = {
    "train": [[0, 2], [0, 1], [2], [2], [0, 1, 2], [1], [1, 2], [0]],
    "test": [[0, 1], [1, 2], [0], [0, 2]],
}


def lines_of(split):
    return [f"{split}/{path}.png {text}" for path, text in LISTS[split].items()]


@pytest.fixture
def listed(own_pictures):
    """own_pictures with lists of several labels and classes.txt."""
    for split in LISTS:
        (own_pictures / f"{split}.txt").write_text("\n".join(lines_of(split)) + "\n")
    (own_pictures / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return own_pictures


def rows_of(numbers):
    found = np.zeros((len(numbers), len(CLASSES)), np.uint8)
    for row, each in enumerate(numbers):
        found[row, each] = 1
    return found


def test_numbers_and_names_become_rows_beside_the_pictures(prepare, listed, tmp_path):
    made = prepare("folder", "--images", listed)
    assert made.returncode == 0, made.stderr
    data = tmp_path / "data/folder-pets/12x3"
    manifest = data_of_run.read_manifest(data)
    assert manifest["classes"] == CLASSES and manifest["several_labels"] is True
    assert set(manifest["lmdb_sha256"]) == {"train", "test", "train_labels", "test_labels"}
    for split, numbers in NUMBERS.items():
        lmdb_path, expected = data / f"{split}_lmdb", rows_of(numbers)
        assert manifest["labels"][split] == expected.sum(axis=0).tolist()
        assert record_keys(lmdb_path) == record_keys(labels.labels_of(lmdb_path))
        with open_rows(lmdb_path) as (keys, read):
            assert keys == [line.rpartition(".png")[0] + ".png" for line in lines_of(split)]
            found = read(range(len(keys)))[1]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
        for row, _, of_picture, picture in iterate(lmdb_path):
            np.testing.assert_array_equal(of_picture, expected[row])
            assert picture.shape == (3, 12, 12)
    data_of_run.check_labels(data, manifest)
    assert prepare("folder", "--images", listed).returncode == 0
    lines = (listed / "train.txt").read_text().replace("cat/2.png 2", "cat/2.png 1")
    (listed / "train.txt").write_text(lines)
    assert "was made with sources pets" in prepare("folder", "--images", listed).stderr


def test_a_database_that_is_not_the_training_pictures(prepare, refused, listed, smooth, tmp_path):
    more = "\n".join([*lines_of("train")[:3], *(f"{at}.png 1 2" for at in range(5))])
    for at in range(5):
        cv2.imwrite(str(listed / f"{at}.png"), smooth(100 + at))
    (listed / "database.txt").write_text(more)
    assert prepare("folder", "--images", listed).returncode == 0
    data = tmp_path / "data/folder-pets/12x3"
    manifest = data_of_run.read_manifest(data)
    assert manifest["counts"] == {"train": 8, "test": 4, "database": 8}
    assert data_of_run.lmdb_of(data, "database") == data / "database_lmdb"
    assert data_of_run.lmdb_of(data, "query") == data / "test_lmdb"
    with open_rows(data_of_run.lmdb_of(data, "database")) as (keys, read):
        assert keys[3:] == [f"{at}.png" for at in range(5)]
        np.testing.assert_array_equal(read([7])[1], [[0, 1, 1]])
    (listed / "database.txt").write_text(f"{more}\ntest/cat/0.png 0 1\n")
    message = refused(prepare("folder", "--images", listed, side=13))
    assert "1 test pictures are training pictures too, such as test/cat/0.png (test)" in message


def test_pictures_without_a_label_are_refused_or_left_out(prepare, refused, listed, tmp_path):
    lines = lines_of("train")
    lines[2], lines[7] = "train/cat/2.png", "train/dog/3.png "
    (listed / "train.txt").write_text("\n".join(lines))
    message = refused(prepare("folder", "--images", listed))
    assert "train/cat/2.png has no label, as 2 of the train pictures; give it one, or" in message
    made = prepare("folder", "--images", listed, "--skip")
    assert made.returncode == 0
    assert "left out: " in made.stderr and "train/cat/2.png has no label" in made.stderr
    data = tmp_path / "data/folder-pets/12x3"
    manifest = json.loads((data / "manifest.json").read_text())
    assert manifest["counts"]["train"] == 6
    assert manifest["left_out"]["train"] == ["train/cat/2.png", "train/dog/3.png"]
    with open_rows(data / "train_lmdb") as (_, read):
        left = [numbers for at, numbers in enumerate(NUMBERS["train"]) if at not in (2, 7)]
        np.testing.assert_array_equal(read(range(6))[1], rows_of(left))


def test_a_build_that_was_interrupted_among_the_labels_goes_on(
    prepare, listed, tmp_path, monkeypatch
):
    folder_of_data = tmp_path / "data/folder-pets/12x3"
    assert prepare("folder", "--images", listed).returncode == 0
    undisturbed = (folder_of_data / "manifest.json").read_text()
    shutil.rmtree(folder_of_data)
    write_labels = build.write_labels

    def interrupted(pictures, split):
        write_labels(pictures, split)
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write_labels", interrupted)
    assert prepare("folder", "--images", listed).returncode == 130
    assert (folder_of_data.with_name(".12x3.partial") / "train_labels_lmdb").is_dir()
    monkeypatch.setattr(build, "write_labels", write_labels)
    again = prepare("folder", "--images", listed)
    assert again.returncode == 0
    assert "train_lmdb: 8 of 8 pictures are there; going on" in again.stdout
    assert (folder_of_data / "manifest.json").read_text() == undisturbed


def write(name, text):
    return lambda images: (images / name).write_text(text)


def with_line(line):
    def spoil(images):
        with open(images / "train.txt", "a") as file:
            file.write(f"{line}\n")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda images: (images / "classes.txt").unlink(),
            "the classes stand in classes.txt, a na",
        ),
        (write("classes.txt", "\n"), "the classes stand in classes.txt, a name a line; put it"),
        (with_line("a.png 0 3"), "train.txt, line 9: the label 3 is outside 0..2, the classes of"),
        (with_line(f"a.png 0 {'9' * 5000}"), "9 is outside 0..2, the classes of"),
        (with_line("a.png sky,moon"), "train.txt, line 9: the class 'moon' is not in"),
        (with_line("a.png sky sea"), "the class 'sky sea' is not in"),
        (with_line("a.png sky,,sea"), "train.txt, line 9: the class '' is not in"),
        (with_line("a.png -1 2"), "train.txt, line 9: the class '-1 2' is not in"),
        (with_line("a.png 0 1 0 1"), "train.txt, line 9: a label stands there twice; name each"),
        (with_line(""), "train.txt, line 9: is empty; remove the line"),
        (with_line("3 17"), "train.txt, line 9: '3 17' is not a picture's path and its labels"),
        (with_line("train/cat/0.png 1"), "train.txt, lines 1 and 9: both list train/cat/0.png"),
        (with_line("a.png 0 1"), "a.png: No such file or directory; correct the list or the file"),
        (
            write("test.txt", "test/cat/0.png 0 1\n"),
            "class 2 (sea) has no test pictures; add some, or remove the class",
        ),
        (
            write("train.txt", "train/cat/0.png 0 1\n"),
            "class 2 (sea) has no train pictures; add some, or remove the class",
        ),
        (write("classes.txt", "sky\ntraffic light\nsea\nmoon\n"), "class 3 (moon) has no train"),
        (
            with_line("test/cat/0.png 0 1"),
            "1 test pictures are training pictures too, such as test/cat/0.png (test)",
        ),
    ],
)
def test_spoilt_lists_are_refused(prepare, refused, listed, tmp_path, spoil, message):
    spoil(listed)
    assert message in refused(prepare("folder", "--images", listed))
    assert not list(tmp_path.glob("data/*/*x*"))


def test_one_label_behind_a_path_of_numbers_stays_one(own_pictures):
    """As convert_imageset takes it: the path is all before the last blank."""
    odd = own_pictures / "train/cat/0.png 3"
    (own_pictures / "train/cat/0.png").rename(odd)
    for split in LISTS:
        paths = sorted(
            path.relative_to(own_pictures) for path in (own_pictures / split).rglob("*.*")
        )
        lines = [f"{path} {int('dog' in str(path))}\n" for path in paths]
        (own_pictures / f"{split}.txt").write_text("".join(lines))
    found = folder.listing(own_pictures, False)
    assert found.labels["train"].ndim == 1
    assert "train/cat/0.png 3" in found.keys["train"]


def change(path, key, value):
    """Write another record into an LMDB, or remove it where value is None."""
    with lmdb.open(str(path), map_size=1 << 24) as env, env.begin(write=True) as txn:
        if value is None:
            txn.delete(key)
        else:
            txn.put(key, value)


def test_labels_that_do_not_stand_beside_their_pictures_are_said(prepare, listed, tmp_path):
    assert prepare("folder", "--images", listed).returncode == 0
    data = tmp_path / "data/folder-pets/12x3"
    pictures, path = data / "train_lmdb", data / "train_labels_lmdb"
    (first, value), *_ = lmdb_reader.records(path)
    change(path, first, labels.to_datum(np.array([1, 0], np.uint8)))
    with pytest.raises(DataError, match="train_labels_lmdb has 2 labels under train/.*of 3 class"):
        lmdb_reader.check_labels(pictures, 3)
    for wrong in (b"\xff", labels.to_datum(np.array([2, 0, 0], np.uint8))):
        change(path, first, wrong)
        with pytest.raises(DataError, match="train_labels_lmdb holds a record that is no row of"):
            lmdb_reader.check_labels(pictures, 3)
    change(path, first, None)
    with pytest.raises(DataError, match="counts 8 train pictures, and the LMDB holds 7"):
        data_of_run.read_manifest(data)
    change(path, first + b"x", value)
    data_of_run.read_manifest(data)
    with pytest.raises(DataError, match="train_labels_lmdb has other keys than train_lmdb, or in"):
        lmdb_reader.check_labels(pictures, 3)
    path.rename(data / "gone")
    with pytest.raises(DataError, match="train_labels_lmdb/data.mdb is missing; remove"):
        data_of_run.read_manifest(data)


def test_a_manifest_that_does_not_count_the_labels_is_said(prepare, listed, tmp_path):
    """Where a training's classifier starts comes from there."""
    assert prepare("folder", "--images", listed).returncode == 0
    data = tmp_path / "data/folder-pets/12x3"
    content = json.loads((data / "manifest.json").read_text())
    del content["labels"]
    (data / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="'labels' does not count the train pictures"):
        data_of_run.read_manifest(data)


def test_labels_as_text_and_counted():
    one, several = np.array([2, 0], np.int32), rows_of([[0, 2], [], [1]])
    assert dataset.label_numbers(one) == ["2", "0"]
    assert dataset.label_numbers(several) == ["0 2", "", "1"]
    assert dataset.label_counts(one, 3).tolist() == [1, 0, 1]
    assert dataset.label_counts(np.repeat(several, 300, axis=0), 3).tolist() == [300, 300, 300]
