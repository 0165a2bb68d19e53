"""scikit-learn's digits: 1,797 grey 8 x 8 pictures that need no download; for tests and trials."""

import hashlib

import numpy as np
from sklearn.datasets import load_digits

from data_prep.dataset import Dataset, Split
from data_prep.datasets import Source


def load(source: Source) -> Dataset:
    """Return the digits, each class's every fifth picture in the test split, 0..16 as 0..255.

    A key's number is the picture's place in scikit-learn's array.
    """
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int32)
    place_in_class = np.empty(len(labels), int)
    for digit in range(10):
        rows = np.flatnonzero(labels == digit)
        place_in_class[rows] = np.arange(len(rows))
    in_test = place_in_class % 5 == 4
    splits = {
        name: Split(
            keys=[f"{name}/{row:08d}" for row in rows],
            labels=labels[rows],
            read=images[rows].__getitem__,
            origin="scikit-learn's digits",
        )
        for name, rows in (("train", np.flatnonzero(~in_test)), ("test", np.flatnonzero(in_test)))
    }
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Dataset(
        classes=[str(digit) for digit in range(10)],
        sources=[{"file": "sklearn.datasets.load_digits", "sha256": digest}],
        order="scikit-learn's own order",
        **splits,
    )
