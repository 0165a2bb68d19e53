"""The mean image that a net subtracts, as Caffe's binaryproto."""

import importlib.util
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.caffe_proto import caffe_pb2
from data_prep.lmdb_reader import iterate

IMAGENET_SHAPE = (3, 256, 256)
GREY = 127  # which EfficientNet-Lite subtracts from every number


def train_mean(path: Path) -> np.ndarray:
    """Return the mean of an LMDB's pictures, float32 C x H x W, as compute_image_mean takes it.

    The sum is exact (integers), where Caffe's, in float32, rounds.
    """
    total, count = 0, 0
    for _, _, _, picture in iterate(path):
        total = total + picture.astype(np.uint64)
        count += 1
    return (total / count).astype(np.float32)


def known_mean(mean: str, side: int, channels: int) -> np.ndarray | None:
    """Return the mean image of a name, float32 C x H x W; None for train, the pictures' own.

    mean: a name of manifest.MEANS.
    """
    if mean == "grey":
        return np.full((channels, side, side), GREY, np.float32)
    return imagenet_mean(side, channels) if mean == "imagenet" else None


def imagenet_mean(side: int, channels: int) -> np.ndarray:
    """Return ILSVRC 2012's mean image, float32 3 x 256 x 256 BGR, that comes with Caffe.

    Raises DataError where the data folder has another shape.
    """
    if (channels, side, side) != IMAGENET_SHAPE:
        raise DataError(
            f"--mean imagenet is a {IMAGENET_SHAPE} image and the pictures are "
            f"{(channels, side, side)}; use --side 256 --channels 3, or --mean train"
        )
    package = importlib.util.find_spec("caffe")
    path = Path(package.origin).parent / "imagenet/ilsvrc_2012_mean.npy"
    if not path.is_file():
        raise DataError(f"{path}: Caffe's mean image is missing; install Caffe again")
    return np.load(path).astype(np.float32)


def to_binaryproto(mean: np.ndarray) -> bytes:
    """Return a mean image (C x H x W float32) as a serialized 1 x C x H x W BlobProto."""
    channels, height, width = mean.shape
    blob = caffe_pb2.BlobProto(
        num=1, channels=channels, height=height, width=width, data=mean.ravel().tolist()
    )
    return blob.SerializeToString()
