"""40,000 pictures of four MNIST digits each, two by two, 56 x 56: the labels are their digits.

Made here from MNIST's own files (data_prep/composed.py says how they are drawn), since the usual
sets with several labels can't be had without their owners.
"""

from data_prep import mnist
from data_prep.composed import compose
from data_prep.dataset import Dataset
from data_prep.datasets import Source


def load(source: Source) -> Dataset:
    """Return the pictures; MNIST's files lie in its own raw folder beside, or are fetched there."""
    return compose(mnist.load(Source(source.raw.parent.parent / "mnist" / "raw")), 2, 2, 1)
