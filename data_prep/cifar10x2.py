"""40,000 pictures of two CIFAR-10 pictures side by side, 64 x 32: the labels are their classes.

Made here from CIFAR-10 (data_prep/composed.py says how they are drawn), as mnist2x2 is.
"""

from data_prep import cifar10
from data_prep.composed import compose
from data_prep.dataset import Dataset
from data_prep.datasets import Source


def load(source: Source) -> Dataset:
    """Return the pictures; CIFAR-10 comes from an archive, or from its own raw folder beside."""
    raw = source.raw.parent.parent / "cifar10" / "raw"
    return compose(cifar10.load(Source(raw, source.archive)), 1, 2, 3)
