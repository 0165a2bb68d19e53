"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 and 10,000 grey 28 x 28 articles."""

from pathlib import Path

from data_prep import idx
from data_prep.dataset import Dataset
from data_prep.datasets import Source
from data_prep.debian import apt_install

PACKAGE = "dataset-fashion-mnist"
PACKAGE_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load(source: Source) -> Dataset:
    """Return Fashion-MNIST from its raw folder, the one above or Debian's package.

    The package is installed where this runs as root; else DataError says how to get the files.
    """
    raw = source.raw
    folders = (raw, raw.parent, PACKAGE_FOLDER)
    if any(idx.find(folders, name) is None for name in MD5):
        apt_install(PACKAGE, f"or put {', '.join(f'{name}.gz' for name in MD5)} into {raw}")
    return idx.load(folders, MD5, CLASSES)
