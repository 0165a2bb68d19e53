"""Pictures put together from those of a data set with one label: real pictures with several."""

from collections.abc import Callable

import numpy as np

from data_prep.dataset import Dataset, Split
from data_prep.picture import decode

SIZES = {"train": 35_000, "test": 5_000}
SEED = 0


def compose(parts: Dataset, rows: int, columns: int, channels: int) -> Dataset:
    """Return SIZES pictures of rows x columns pictures of a data set, which are all of one size.

    channels: of the pictures, 1 or 3. A picture has the labels of its parts. These are drawn with
    replacement, by numpy.random.RandomState(SEED), from the same split, so that no test picture has
    a part of a training picture. A key names them by their rows in `parts`, line by line:
    ``train/00000017:512+90+3+44``.
    """
    random = np.random.RandomState(SEED)
    splits = {}
    for name, size in SIZES.items():
        split = parts.splits[name]
        drawn = random.randint(0, len(split.keys), (size, rows * columns))
        labels = np.zeros((size, len(parts.classes)), np.uint8)
        labels[np.arange(size)[:, None], split.labels[drawn]] = 1
        splits[name] = Split(
            keys=[
                f"{name}/{row:08d}:{'+'.join(map(str, of_row))}"
                for row, of_row in enumerate(drawn.tolist())
            ],
            labels=labels,
            read=_reader(split, drawn.reshape(size, rows, columns), channels),
            origin=split.origin,
        )
    return Dataset(
        classes=parts.classes,
        sources=parts.sources,
        order=f"as drawn by numpy.random.RandomState({SEED}).randint, training pictures first",
        notes=parts.notes,
        **splits,
    )


def _reader(split: Split, drawn: np.ndarray, channels: int) -> Callable[[int], np.ndarray]:
    """Return the function that puts a row's picture together; drawn: (N, rows, columns) rows."""

    def read(row: int) -> np.ndarray:
        lines = [[decode(split.read(part), channels) for part in line] for line in drawn[row]]
        return np.vstack([np.hstack(line) for line in lines])

    return read
