"""Pictures put together from pictures with one label: their pixels, labels and keys."""

import shutil

import numpy as np
import pytest

from data_prep import composed, mnist, mnist2x2
from data_prep.dataset import Dataset, check
from data_prep.datasets import Source


@pytest.fixture
def parts(split):
    """A data set of small grey pictures of three classes, 30 and 12 of them."""
    train, test = split(30, channels=1), split(12, channels=1)
    return Dataset(train, test, ["a", "b", "c"], sources=[{"file": "x", "sha256": "y"}], order="")


def test_a_picture_is_its_parts_line_by_line(parts, monkeypatch):
    monkeypatch.setattr(composed, "SIZES", {"train": 50, "test": 20})
    made = composed.compose(parts, 2, 3, 1)
    check(made)
    assert made.several and made.sources == parts.sources
    for name, size in composed.SIZES.items():
        of_parts, split = parts.splits[name], made.splits[name]
        assert len(split.keys) == len(set(split.keys)) == size
        for row in range(size):
            start, _, rest = split.keys[row].partition(":")
            drawn = list(map(int, rest.split("+")))
            assert start == f"{name}/{row:08d}" and len(drawn) == 6
            pixels = split.read(row)
            for at, part in enumerate(drawn):
                top, left = 24 * (at // 3), 32 * (at % 3)
                piece = pixels[top : top + 24, left : left + 32]
                np.testing.assert_array_equal(piece, of_parts.read(part))
            expected = np.isin(np.arange(3), of_parts.labels[drawn])
            np.testing.assert_array_equal(split.labels[row], expected)
    again = composed.compose(parts, 2, 3, 1)
    assert again.train.keys == made.train.keys


def test_mnist_two_by_two(shared_data, tmp_path):
    """MNIST's files lie where MNIST has them."""
    shutil.copytree(shared_data / "mnist", tmp_path / "mnist/raw")
    made = mnist2x2.load(Source(tmp_path / "mnist2x2/raw"))
    assert {name: len(split.keys) for name, split in made.splits.items()} == composed.SIZES
    digits = mnist.load(Source(tmp_path / "mnist/raw")).test
    key = made.test.keys[17]
    drawn = list(map(int, key.partition(":")[2].split("+")))
    assert made.test.read(17).shape == (56, 56)
    np.testing.assert_array_equal(made.test.read(17)[28:, :28], digits.read(drawn[2]))
    assert set(np.flatnonzero(made.test.labels[17])) == set(digits.labels[drawn])
    assert made.sources == mnist.load(Source(tmp_path / "mnist/raw")).sources
