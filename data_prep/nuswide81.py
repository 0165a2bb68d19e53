"""NUS-WIDE with all 81 concepts and 5,000 queries; nuswide.py says what lies in ``IMAGES``."""

from pathlib import Path

from data_prep import nuswide
from data_prep.dataset import Dataset
from data_prep.folder import Listing

WHOLE = nuswide.Protocol(concepts=81, queries=5_000, training=10_500, of_each=(10, 20))


def listing(images: Path, skip: bool) -> Listing:
    """Return the splits of all concepts; DataError where the folder is not NUS-WIDE's."""
    return nuswide.listing_by(images, skip, WHOLE)


def load(listed: Listing) -> Dataset:
    """Return the data set, with its splits as list files."""
    return nuswide.load(listed)
