"""One picture to one Datum, as Caffe's convert_imageset makes it, and back."""

import functools
import io
import struct
import warnings

import cv2
import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from data_prep import DataError
from data_prep.caffe_proto import caffe_pb2

SUFFIX = {"png": ".png", "jpeg": ".jpg"}
AROUND = 40  # bytes at most beside a raw Datum's pixels: six fields, a negative label's the longest
MOST_PIXELS = 178_956_970  # of a picture: from there on Pillow takes it for an attack
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # a JPEG's markers SOF0 to SOF15
WITH_LENGTH = frozenset((*range(0xC0, 0xD0), *range(0xDA, 0xFF)))  # all but those that stand alone
MARKER, SIZE = struct.Struct(">BBH"), struct.Struct(">HH")  # of a JPEG's segment, of its frame
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of half as many


def decode(source: bytes | np.ndarray, channels: int) -> np.ndarray:
    """Return the picture as uint8, H x W for 1 channel or H x W x 3 BGR for 3, as cv::imread would.

    source: a picture file's bytes, or a uint8 array, H x W or H x W x 3 BGR. Palettes, CMYK and
    16-bit depth become 8-bit BGR or grey; transparency is dropped, as Caffe drops it.
    Raises DataError (without the file's name, which the caller adds) where it can't be decoded.
    """
    if isinstance(source, bytes):
        if not source:
            raise DataError("is empty")
        refuse_large(source)
        flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
        try:
            picture = cv2.imdecode(np.frombuffer(source, np.uint8), flag)
        except cv2.error:  # more pixels than OpenCV takes
            picture = None
        if picture is None:
            raise DataError("cannot be decoded (damaged, cut short, or not a picture OpenCV reads)")
        return picture
    if source.ndim == 2 and channels == 3:
        return cv2.cvtColor(source, cv2.COLOR_GRAY2BGR)
    if source.ndim == 3 and channels == 1:
        return cv2.cvtColor(source, cv2.COLOR_BGR2GRAY)
    return source


def refuse_large(source: bytes) -> None:
    """Raise DataError (without the file's name) for a picture of more than MOST_PIXELS.

    Its header is read, not its pixels: a file of 100 kB can hold a thousand million of them.
    """
    try:
        width, height = jpeg_size(source) or _pillow_size(source)
        size = f" ({width} x {height})"
    except Image.DecompressionBombError:
        width, height, size = MOST_PIXELS + 1, 1, ""
    except Exception:  # not of a format that Pillow reads, or damaged: OpenCV will say
        return
    if width * height > MOST_PIXELS:
        raise DataError(
            f"has more than {MOST_PIXELS // 10**6} million pixels{size}; make it smaller"
        )


def jpeg_size(source: bytes) -> tuple[int, int] | None:
    """Return a JPEG's width and height; None where its headers do not stand in the plain way.

    Pillow, which takes half as long again as decoding a picture of CIFAR-10, is left for the rest.
    Source: ITU-T T.81, B.1.1.4 and B.2.2; a second frame header is refused by libjpeg.
    """
    at, last = 2, len(source) - 9
    if not source.startswith(b"\xff\xd8"):
        return None
    while at <= last:
        begin, kind, size = MARKER.unpack_from(source, at)
        if begin != 0xFF or kind not in WITH_LENGTH:
            return None
        if kind in FRAMES:
            height, width = SIZE.unpack_from(source, at + 5)
            return width, height
        at += 2 + size
    return None


def _pillow_size(source: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(source)) as picture:
        return picture.size


def fit(source: bytes | np.ndarray, side: int, channels: int) -> np.ndarray:
    """Return the picture decoded and resized (bilinear) to side x side; see decode."""
    picture = decode(source, channels)
    if picture.shape[:2] != (side, side):
        picture = cv2.resize(picture, (side, side))
    return picture


def to_datum(picture: np.ndarray, label: int, encoding: str) -> bytes:
    """Return the serialized Datum of a picture as fit gives it.

    encoding: ``raw`` (C x H x W bytes, BGR), ``png`` (lossless) or ``jpeg`` (OpenCV's quality 95).
    Source: ReadImageToDatum and CVMatToDatum in caffe/src/caffe/util/io.cpp.
    """
    if encoding == "raw":
        room = bytearray(picture.size + AROUND)
        return bytes(room[: write_raw(picture, label, memoryview(room))])
    data = cv2.imencode(SUFFIX[encoding], picture)[1].tobytes()
    return caffe_pb2.Datum(data=data, label=label, encoded=True).SerializeToString()


def raw_room(side: int, channels: int) -> int:
    """Return the bytes that a serialized raw Datum takes at most."""
    return channels * side * side + AROUND


def write_raw(picture: np.ndarray, label: int, room: memoryview) -> int:
    """Write a picture's serialized raw Datum (see to_datum) into room; return its size in bytes.

    The colours are taken apart where the record is to stand, so that no pixel is copied twice.
    """
    side, channels = len(picture), 1 if picture.ndim == 2 else 3
    before, behind = around_pixels(side, channels, label)
    start, end = len(before), len(before) + picture.size
    room[:start] = before
    planes = np.ndarray((channels, side, side), np.uint8, room, start)
    if channels == 1:
        planes[0] = picture
    else:
        cv2.split(picture, [planes[0], planes[1], planes[2]])
    room[end : end + len(behind)] = behind
    return end + len(behind)


@functools.lru_cache(1 << 16)
def around_pixels(side: int, channels: int, label: int) -> tuple[bytes, bytes]:
    """Return the bytes of a serialized raw Datum before and behind its pixels; no pixel counts."""
    pixels = bytes(channels * side * side)
    datum = caffe_pb2.Datum(
        channels=channels, height=side, width=side, data=pixels, label=label, encoded=False
    )
    whole = datum.SerializeToString()
    at = whole.index(pixels)  # the length before them does not end in a zero
    return whole[:at], whole[at + len(pixels) :]


def label_of(value: bytes) -> int:
    """Return a serialized Datum's label, without a look at its pixels; see from_datum."""
    try:
        return caffe_pb2.Datum.FromString(value).label
    except DecodeError:
        raise DataError("holds a record that is no picture") from None


def from_datum(value: bytes) -> tuple[np.ndarray, int]:
    """Return a serialized Datum's pixels, uint8 C x H x W (BGR), and its label.

    Encoded Datums are decoded in their own channels, as DecodeDatumNative does. Raises DataError
    (without the LMDB's name, which the caller adds) for a record that is none.
    """
    try:
        datum = caffe_pb2.Datum.FromString(value)
        if not datum.encoded:
            shape = (datum.channels, datum.height, datum.width)
            return np.frombuffer(datum.data, np.uint8).reshape(shape), datum.label
        picture = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (DecodeError, ValueError, TypeError, cv2.error):
        picture = None
    if picture is None:
        raise DataError("holds a record that is no picture")
    return np.atleast_3d(picture).transpose(2, 0, 1), datum.label
