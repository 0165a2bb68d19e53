"""SUN397's tree and split, and Yahoo-1M's lists, which are refused at any other size."""

from collections import Counter

import numpy as np
import pytest

from data_prep import DataError, folder, sun397, yahoo1m


def whole_tree():
    """The paths of a tree of SUN397's size, as pictures_by_class gives them, none of them there."""
    random = np.random.RandomState(3)
    sizes = 100 + random.multinomial(108_754 - 39_700, random.dirichlet(np.ones(397)))
    return {
        f"{chr(97 + label // 16)}/class{label:03d}": [
            f"{chr(97 + label // 16)}/class{label:03d}/sun_{row}.jpg" for row in range(size)
        ]
        for label, size in enumerate(sizes)
    }


def test_the_split_has_the_papers_sizes():
    pictures = whole_tree()
    train, test = sun397.split(pictures)
    assert (len(train), len(test)) == (100_754, 8_000)
    assert sorted(train + test) == sorted(path for paths in pictures.values() for path in paths)
    counts = Counter(path.rpartition("/")[0] for path in test)
    assert Counter(counts.values()) == {20: 337, 21: 60}
    largest = {name for name, drawn in counts.items() if drawn == 21}
    smallest_of_them = min(len(pictures[name]) for name in largest)
    assert smallest_of_them >= max(len(pictures[name]) for name in pictures.keys() - largest)
    assert sun397.split(pictures) == (train, test)
    drawn = [int(path.rpartition("_")[2][:-4]) / len(pictures[path[:10]]) for path in test]
    assert 0.45 < np.mean(drawn) < 0.55  # from all over each class


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A SUN397 of three classes, one of them two deep, 26 pictures each but for one more."""
    for place in ("a/abbey", "a/apartment_building/outdoor", "z/zoo"):
        (tmp_path / "SUN397" / place).mkdir(parents=True)
        for row in range(26 + (place == "z/zoo")):
            (tmp_path / "SUN397" / place / f"sun_{row:02d}.jpg").write_bytes(b"x" * row)
    (tmp_path / "SUN397/ClassName.txt").write_text("/a/abbey\n")
    (tmp_path / "SUN397/a/abbey/Thumbs.db").write_text("")
    monkeypatch.setattr(sun397, "CLASSES", 3)
    monkeypatch.setattr(sun397, "PICTURES", 79)
    monkeypatch.setattr(sun397, "LARGEST", 1)
    return tmp_path


def test_a_tree_with_classes_one_and_two_deep(tree):
    listed = sun397.listing(tree, False)
    assert listed.classes == ["abbey", "apartment_building/outdoor", "zoo"]
    assert listed.root == tree / "SUN397"
    assert Counter(listed.labels["test"].tolist()) == {0: 20, 1: 20, 2: 21}
    assert Counter(listed.labels["train"].tolist()) == {0: 6, 1: 6, 2: 6}
    for split, keys in listed.keys.items():
        assert keys != sorted(keys)
        for key, label, size in zip(keys, listed.labels[split], listed.sizes[split], strict=True):
            assert key.rpartition("/")[0].partition("/")[2] == listed.classes[label]
            assert size == int(key[-6:-4])
    assert sun397.listing(tree / "SUN397", False).keys == listed.keys


def test_the_kept_lists_are_the_split(tree):
    listed = sun397.listing(tree, False)
    kept = sun397.load(listed).lists
    for name, text in kept.items():
        (tree / "SUN397" / name).write_text(text)
    again = folder.listing(tree / "SUN397", False)
    assert again.keys == listed.keys
    assert again.classes == listed.classes
    for split in ("train", "test"):
        np.testing.assert_array_equal(again.labels[split], listed.labels[split])


def test_a_tree_of_another_size_is_refused(prepare_process, refused, tree):
    message = refused(prepare_process("sun397", "--images", tree))
    assert (
        f"{tree / 'SUN397'}: holds 79 pictures of 3 classes, where SUN397 has 108,754 of" in message
    )
    assert "DATASET=folder" in message
    (tree / "SUN397/z/zoo/sun_00.jpg").unlink()
    with pytest.raises(DataError, match="holds 78 pictures of 3 classes, where SUN397 has 79"):
        sun397.listing(tree, False)
    assert "there is no such folder" in refused(
        prepare_process("sun397", "--images", tree / "gone")
    )


@pytest.fixture
def owners(tmp_path, monkeypatch):
    """A Yahoo-1M of six training and three test pictures of three classes."""
    monkeypatch.setattr(yahoo1m, "CLASSES", 3)
    monkeypatch.setattr(yahoo1m, "SIZES", {"train": 6, "test": 3})
    for split, size in yahoo1m.SIZES.items():
        names = [f"{split}{row}.jpg" for row in range(size)]
        for name in names:
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / f"{split}.txt").write_text(
            "".join(f"{name} {row % 3}\n" for row, name in enumerate(names))
        )
    return tmp_path


def test_the_owners_lists_keep_their_order(owners):
    listed = yahoo1m.listing(owners, False)
    dataset = yahoo1m.load(listed)
    assert dataset.train.keys == [f"train{row}.jpg" for row in range(6)]
    assert list(dataset.test.labels) == [0, 1, 2]
    assert dataset.order == "the list files' own order"
    assert dataset.test.read(2) == b"x"


def test_lists_of_another_size_or_with_shared_paths_are_refused(prepare_process, refused, owners):
    message = refused(prepare_process("yahoo1m", "--images", owners))
    assert "its lists have 6 training and 3 test pictures of 3 classes, where Yahoo-1M" in message
    assert "1,011,723 and 112,363 of 116; give other lists as DATASET=folder" in message
    text = (owners / "test.txt").read_text()
    (owners / "test.txt").write_text(text.replace("test1.jpg", "train4.jpg"))
    with pytest.raises(DataError, match=r"1 paths are in both lists, such as train4\.jpg"):
        yahoo1m.listing(owners, False)
    (owners / "test.txt").unlink()
    with pytest.raises(DataError, match=r"there is no test\.txt with `path label` lines"):
        yahoo1m.listing(owners, False)
