"""A picture as the release's MATLAB code gives it to the net, or as Caffe's TEST phase does."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from data_prep.picture import decode, fit
from tools.compare import matlab
from tools.net import preprocess

PREPROCESSINGS = ("matlab", "caffe")
TRANSPOSED_MEAN = ("ssdh",)  # the methods whose release subtracts its mean image transposed


def preparation(
    preprocessing: str, method: str, *, mean_file: Path, crop: int, scale: float
) -> Callable[[bytes | np.ndarray], np.ndarray]:
    """Return the function from a picture to the net's input, float32 C x S x S, BGR.

    preprocessing: one of PREPROCESSINGS. method: METHOD. The function takes a file's bytes, or a
    uint8 array, H x W grey or H x W x 3 BGR. mean_file: a binaryproto, or for the MATLAB code the
    release's own .mat. crop, scale: as preprocess.transform takes them.
    """
    own = mean_file.suffix == ".mat"
    mean = matlab.read_mean(mean_file) if own else preprocess.mean_image(mean_file)
    channels, side, _ = mean.shape
    if preprocessing == "matlab":
        transposed = method in TRANSPOSED_MEAN and not own
        return lambda source: matlab.transform(
            stored(source, channels), mean=mean, crop=crop, scale=scale, transposed_mean=transposed
        )

    def caffe_s(source: bytes | np.ndarray) -> np.ndarray:
        pixels = np.atleast_3d(fit(stored(source, channels), side, channels)).transpose(2, 0, 1)
        return preprocess.transform(pixels[None], mean, crop, scale)[0]

    return caffe_s


def stored(source: bytes | np.ndarray, channels: int) -> np.ndarray:
    """Return a picture as its file stores it, not turned by its EXIF orientation; see decode.

    MATLAB's imread, and the OpenCV that the releases were built with, turn none.
    """
    if not isinstance(source, bytes) or not source:
        return decode(source, channels)
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    try:
        data = np.frombuffer(source, np.uint8)
        picture = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        picture = None
    return decode(source, channels) if picture is None else picture  # decode says why not
