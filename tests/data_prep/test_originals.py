"""Pictures before they are resized, and the releases' list files."""

import os

import cv2
import numpy as np
import pytest

from data_prep import DataError, originals


@pytest.fixture
def lists(tmp_path):
    """A release's folder: data/set with lists whose paths start at the release's root."""
    folder = tmp_path / "data" / "set"
    random = np.random.default_rng(0)
    for split, labels in (("train", [1, 0, 1]), ("test", [0, 1])):
        (folder / split).mkdir(parents=True)
        paths = []
        for row in range(len(labels)):
            path = folder / split / f"{row}.png"
            cv2.imwrite(str(path), random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
            paths.append(f"/data/set/{split}/{row}.png")
        (folder / f"{split}-file-list.txt").write_text("\n".join(paths) + "\n")
        (folder / f"{split}-label.txt").write_text("\n".join(map(str, labels)) + "\n")
    return folder


def test_lists_keep_their_order(lists):
    dataset = originals.load("cifar10", lists, None, lists)
    assert list(dataset.train.keys) == [f"/data/set/train/{row}.png" for row in range(3)]
    assert dataset.train.labels.tolist() == [1, 0, 1]
    assert dataset.test.read(1) == (lists / "test" / "1.png").read_bytes()
    assert dataset.order == "the release's list files' own order"
    assert [each["file"] for each in dataset.sources] == [
        *("train-file-list.txt", "train-label.txt", "pictures of train-file-list.txt"),
        *("test-file-list.txt", "test-label.txt", "pictures of test-file-list.txt"),
    ]
    (lists / "test" / "1.png").write_bytes((lists / "test" / "0.png").read_bytes())
    changed = originals.load("cifar10", lists, None, lists)
    same = [a == b for a, b in zip(dataset.sources, changed.sources, strict=True)]
    assert same == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-label.txt", "1\n0\n", "has 2 labels for the 3 paths"),
        ("train-label.txt", "1\nx\n0\n", "line 2: 'x' is not a label"),
        ("train-label.txt", "1\n5\n0\n", "line 2: the label 5 is too large for the 5 pictures of"),
        ("test-label.txt", "0\n1699999999\n", "line 2: the label 1699999999 is too large for the"),
        ("test-label.txt", "99999999999\n0\n", "line 1: the label 99999999999 is too large for"),
        ("test-file-list.txt", "", "this list is empty"),
        ("test-file-list.txt", "/gone/1.png\n/gone/2.png\n", "line 1: /gone/1.png is neither"),
    ],
)
def test_what_is_wrong_is_named(lists, name, content, words):
    (lists / name).write_text(content)
    with pytest.raises(DataError, match=words) as error:
        originals.load("cifar10", lists, None, lists)
    assert name in str(error.value)


def test_lists_with_a_byte_order_mark(lists):
    for path in lists.glob("*.txt"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    dataset = originals.load("cifar10", lists, None, lists)
    assert dataset.train.keys[0] == "/data/set/train/0.png"
    assert dataset.train.labels.tolist() == [1, 0, 1]


def test_a_missing_list_and_a_missing_picture(lists):
    (lists / "test" / "1.png").unlink()
    with pytest.raises(DataError, match=r"/data/set/test/1\.png cannot be read"):
        originals.load("cifar10", lists, None, lists)
    (lists / "test-label.txt").unlink()
    os.mkfifo(lists / "test-label.txt")  # would be waited for, for ever
    with pytest.raises(DataError, match=r"test-label\.txt: no regular file"):
        originals.load("cifar10", lists, None, lists)
    (lists / "test-label.txt").unlink()
    with pytest.raises(DataError, match=r"test-label\.txt: there is no such list"):
        originals.load("cifar10", lists, None, lists)


def test_a_data_set_by_name_comes_in_its_own_size(tmp_path):
    dataset = originals.load("digits", tmp_path, None, None)
    assert dataset.train.read(0).shape == (8, 8)
    with pytest.raises(DataError, match="give LIST="):
        originals.load("folder", tmp_path, None, None)
