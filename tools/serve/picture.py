"""A picture of a person's own as the net gets it: transparency lies on white."""

import cv2
import numpy as np

from tools.net.preprocess import read_picture
from tools.run.nets import Net

ROWS = 256  # at a time, so that a large picture is not held several times
PNG, WEBP = b"\x89PNG", b"WEBP"  # the formats that have transparency


def read(content: bytes, net: Net) -> np.ndarray:
    """Return a picture file's bytes as preprocess.read_picture does, its transparency on white.

    Raise DataError for what cannot be decoded. A picture without transparency is read as training
    pictures are, to the last bit.
    """
    if content[:4] == PNG or content[8:12] == WEBP:
        picture = _decode_whole(content)
        if picture is not None and picture.ndim == 3 and picture.shape[2] == 4:
            opaque = on_white(picture)
            if opaque is not None:
                content = cv2.imencode(".bmp", opaque)[1].tobytes()
    return read_picture(content, net)


def _decode_whole(content: bytes) -> np.ndarray | None:
    """Return a picture with all its channels, or None where it cannot be decoded."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # more pixels than OpenCV takes
        return None


def on_white(picture: np.ndarray) -> np.ndarray | None:
    """Return a picture, H x W x 4 BGRA, uint8 or uint16, on white: uint8 H x W x 3 BGR.

    Return None where it has no transparency.
    """
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture[:, :, 3].min() == 255:
        return None
    opaque = np.empty((*picture.shape[:2], 3), np.uint8)
    for at in range(0, len(picture), ROWS):
        rows = picture[at : at + ROWS].astype(np.uint32)
        alpha = rows[:, :, 3:]
        opaque[at : at + ROWS] = (rows[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return opaque
