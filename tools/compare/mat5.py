"""Numeric arrays of a MATLAB file up to version 7, which SciPy's reader may crash on when damaged.

Format: "MAT-File Format", MathWorks, chapter 1.
"""

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

HEAD = 128  # bytes; the last two say the order of bytes
ORDERS = {b"IM": "<", b"MI": ">"}
MATRIX, COMPRESSED = 14, 15
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
MOST_BYTES = 64 << 20  # of an array: a mean image has 786,432


def read_arrays(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """Return the arrays of these names that a file has, with MATLAB's axes.

    Raise ValueError, struct.error, zlib.error, KeyError or IndexError where it is no such file.
    """
    data = path.read_bytes()
    order = ORDERS[data[HEAD - 2 : HEAD]]
    found = {}
    for kind, content in _elements(data[HEAD:], order):
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, MOST_BYTES)
            kind, content = list(_elements(unpacked, order))[0]
        if kind != MATRIX:
            continue
        _, (_, sizes), (_, name), *values = _elements(content, order)
        if name.decode("latin-1") in names:
            shape = np.frombuffer(sizes, f"{order}i4")
            numbers = np.frombuffer(values[0][1], order + NUMBERS[values[0][0]])
            found[name.decode("latin-1")] = numbers.reshape(shape, order="F")
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, content) of the elements that follow one another."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        at += 8
        if kind >> 16:  # a small one, whose content stands in the place of its size
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError("an element of a wrong size")
            yield kind, data[at - 4 : at - 4 + size]
            continue
        if at + size > len(data):
            raise ValueError("cut short")
        yield kind, data[at : at + size]
        at += size + (-size % 8 if kind != COMPRESSED else 0)
