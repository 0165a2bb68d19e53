"""A picture as the release's MATLAB code gives it to the net, or as Caffe's TEST phase does."""

from collections.abc import Callable

import numpy as np

from data_prep.picture import fit
from tools.compare import matlab
from tools.net import preprocess

PREPROCESSINGS = ("matlab", "caffe")
TRANSPOSED_MEAN = ("ssdh",)  # the methods whose release subtracts its mean image transposed


def preparation(
    preprocessing: str, method: str, *, mean: np.ndarray, crop: int, scale: float
) -> Callable[[bytes | np.ndarray], np.ndarray]:
    """Return the function from a picture to the net's input, float32 C x S x S, BGR.

    preprocessing: one of PREPROCESSINGS. method: METHOD. The function takes a file's bytes, or a
    uint8 array, H x W grey or H x W x 3 BGR. mean, crop, scale: as preprocess.transform takes them.
    """
    channels, side, _ = mean.shape
    if preprocessing == "matlab":
        transposed = method in TRANSPOSED_MEAN
        return lambda source: matlab.transform(
            source, mean=mean, crop=crop, scale=scale, transposed_mean=transposed
        )

    def caffe_s(source: bytes | np.ndarray) -> np.ndarray:
        pixels = np.atleast_3d(fit(source, side, channels)).transpose(2, 0, 1)
        return preprocess.transform(pixels[None], mean, crop, scale)[0]

    return caffe_s
