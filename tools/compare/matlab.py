"""What the releases' MATLAB code does to a picture, in NumPy.

It is not Caffe's TEST phase: the picture becomes single precision before it is resized, bilinearly
and antialiased where it shrinks, without rounding to whole grey values (prepare_batch.m); SSDH's
mean image is subtracted transposed; and the crop starts at 15, not 14.
"""

import struct
import zlib
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

from data_prep.picture import decode
from eval.hdf5 import DAMAGE
from tools.compare.mat5 import read_arrays
from tools.run.failure import Failure

MEAN_FILE = "ilsvrc_2012_mean.mat"  # as both releases have it
MEAN_NAMES = ("image_mean", "mean_data")  # KevinNet's (Caffe of 2014), SSDH's


def read_mean(path: Path) -> np.ndarray:
    """Return a release's mean image, float32 C x rows x columns, BGR, as its file stores it.

    The releases subtract it so from a picture, whatever its axes mean. Raise Failure where the file
    is no MATLAB file (of version 5 or later) with such an image.
    """
    try:
        if h5py.is_hdf5(path):  # version 7.3, with the axes the other way round
            with h5py.File(path) as file:
                found = {name: file[name][()].T for name in MEAN_NAMES if name in file}
        else:
            found = read_arrays(path, MEAN_NAMES)
    except (*DAMAGE, struct.error, zlib.error) as error:
        why = " ".join(str(error).split())[:80]
        raise Failure(f"{path} is no MATLAB file ({why}): get the release's again") from None
    images = [found[name] for name in MEAN_NAMES if name in found]
    image = images[0] if images else np.empty(0)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype.kind not in "fiu":
        raise Failure(f"{path} has no image named {' or '.join(MEAN_NAMES)}: get the release's")
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)


@lru_cache(maxsize=64)
def resize_matrix(size: int, wanted: int) -> np.ndarray:
    """Return the float64 wanted x size matrix that imresize(..., 'bilinear') applies to one axis.

    Each output is a triangle-weighted mean of inputs; when shrinking, the triangle is stretched by
    size / wanted (antialiasing). Beyond the border the picture is mirrored, its edge repeated.
    """
    scale = wanted / size
    stretch = min(scale, 1.0)
    centre = (np.arange(wanted) + 0.5) / scale - 0.5
    reach = int(np.ceil(1 / stretch)) + 1
    inputs = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weights = np.maximum(0, 1 - np.abs(centre[:, None] - inputs) * stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    inside = inputs % (2 * size)
    inside = np.where(inside < size, inside, 2 * size - 1 - inside)
    matrix = np.zeros((wanted, size))
    np.add.at(matrix, (np.arange(wanted)[:, None], inside), weights)
    return matrix


def resize(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture, H x W x C of any type, as float32, side x side x C."""
    rows, columns = (resize_matrix(size, side) for size in picture.shape[:2])
    half = np.tensordot(rows, picture.astype(np.float64), (1, 0))  # side x W x C
    return np.tensordot(columns, half, (1, 1)).transpose(1, 0, 2).astype(np.float32)


def crop_offset(side: int, crop: int) -> int:
    """Return where the centre crop starts, counted from 0: 15 for 227 of 256 (prepare_batch.m)."""
    return (side - crop + 1) // 2


def transform(
    source: bytes | np.ndarray,
    *,
    mean: np.ndarray,
    crop: int,
    scale: float,
    transposed_mean: bool,
) -> np.ndarray:
    """Return a picture as the release's net gets it, float32 C x S x S, BGR.

    source: a picture file's bytes, or a uint8 array, H x W grey or H x W x 3 BGR. mean: float32,
    C x side x side. crop: the side S of the crop, 0 for none. scale: a factor, 1 in the releases.
    transposed_mean: whether the mean is subtracted with its rows and columns exchanged, as SSDH's
    ilsvrc_2012_mean.mat has it; KevinNet's stands upright.
    """
    channels, side, _ = mean.shape
    picture = resize(np.atleast_3d(decode(source, channels)), side).transpose(2, 0, 1)
    picture = picture - (mean.transpose(0, 2, 1) if transposed_mean else mean)
    if crop:
        start = crop_offset(side, crop)
        picture = picture[:, start : start + crop, start : start + crop]
    return picture * np.float32(scale)
