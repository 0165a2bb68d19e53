"""What Caffe's data transformer does to a picture in the TEST phase, in NumPy, to the last bit."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep import DataError
from data_prep.files import read_regular
from data_prep.picture import fit
from tools.run.failure import Failure
from tools.run.nets import Net

if TYPE_CHECKING:
    from google.protobuf.message import Message


def read_picture(source: Path | bytes, net: Net) -> np.ndarray:
    """Return a picture as it would lie in the net's LMDB, uint8 C x H x W, BGR.

    source: a picture file's path, or its bytes. Raise DataError, naming the file where there is
    one, for what cannot be read or decoded.
    """
    try:
        content = source if isinstance(source, bytes) else read_regular(source)
        pixels = fit(content, net.side, net.channels)
    except DataError as error:
        raise DataError(
            f"{'The picture' if isinstance(source, bytes) else source} {error}"
        ) from None
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def transform_param(train_val: "Message", phase: str = "TEST") -> "Message":
    """Return the TransformationParameter of a train_val net's data layer (a NetParameter).

    phase: which of the two, "TRAIN" or "TEST".
    """
    from caffe.proto import caffe_pb2

    for layer in train_val.layer:
        if layer.type == "Data" and caffe_pb2.Phase.Value(phase) in [
            rule.phase for rule in layer.include
        ]:
            return layer.transform_param
    raise Failure(f"{train_val.name} has no Data layer for the {phase} phase")


def mean_image(path: Path | str) -> np.ndarray:
    """Return a binaryproto's mean image, float32, C x H x W; raise Failure where it is none."""
    from caffe.proto import caffe_pb2
    from google.protobuf.message import DecodeError

    try:
        blob = caffe_pb2.BlobProto.FromString(Path(path).read_bytes())
        shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
        mean = np.array(blob.data, np.float32).reshape(shape[-3:])
    except (DecodeError, ValueError):
        mean = None
    if mean is None or mean.ndim != 3 or not np.isfinite(mean).all():
        raise Failure(f"{path} is damaged, no mean image of Caffe's: get it, or its data, again")
    return mean


def transform(pictures: np.ndarray, mean: np.ndarray, crop: int, scale: float) -> np.ndarray:
    """Return pictures as the net gets them, float32, N x C x S x S.

    pictures: uint8, N x C x H x W, BGR. mean: float32, C x H x W. crop: the side S of the centre
    crop, 0 for none. Caffe computes (picture - mean) * scale, with the mean cropped like the
    picture.
    """
    pictures = pictures.astype(np.float32) - mean
    if crop:
        top, left = ((side - crop) // 2 for side in pictures.shape[2:])
        pictures = pictures[:, :, top : top + crop, left : left + crop]
    return pictures * np.float32(scale)
