"""What a data folder's files say of themselves, read without LMDB, NumPy or Caffe.

Every command looks here first: LMDB maps a file into memory, and the process would die (SIGBUS)
where it reads a part that has been cut off.
"""

import math
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

from data_prep import DataError

META = struct.Struct("<16x II Q Q 48s 48s QQ")  # page header, then MDB_meta of lmdb's mdb.c
TREE = struct.Struct("<I HH QQQ QQ")  # MDB_db; of the first one, the first field is the page size
MAGIC = 0xBEEFC0DE
SMALLEST_PAGE, LARGEST_PAGE = 256, 65536
REMAKE = "remove {folder} and make it again"


def records_of(lmdb: Path) -> int:
    """Return the number of an LMDB's records; DataError where it is none, or is cut short.

    lmdb: its folder. What counts is the newer of the two meta pages, as for LMDB itself.
    """
    path = lmdb / "data.mdb"
    advice = REMAKE.format(folder=lmdb.parent)
    with open(path, "rb") as file:
        metas = [_meta(file.read(META.size))]
        if metas[0]:
            file.seek(metas[0][0])
            metas.append(_meta(file.read(META.size)))
        size = file.seek(0, 2)
    found = [meta for meta in metas if meta]
    if not found:
        raise DataError(f"{path}: not an LMDB that can be read; {advice}")
    page, last, records, _ = max(found, key=lambda meta: meta[-1])
    if size < (last + 1) * page:
        raise DataError(
            f"{path}: cut short, {size:,} of {(last + 1) * page:,} bytes are there; {advice}"
        )
    return records


def _meta(data: bytes) -> tuple[int, int, int, int] | None:
    """Return page size, last page, records and transaction of a meta page; None for another."""
    if len(data) < META.size:
        return None
    magic, _, _, _, free, main, last, transaction = META.unpack(data)
    page, records = TREE.unpack(free)[0], TREE.unpack(main)[6]
    if magic != MAGIC or not SMALLEST_PAGE <= page <= LARGEST_PAGE:
        return None
    return page, last, records, transaction


def check_mean(path: Path, side: int, channels: int) -> None:
    """Raise DataError where a mean image is damaged, or not of channels x side x side."""
    wanted = (1, channels, side, side)
    advice = REMAKE.format(folder=path.parent)
    try:
        fields = dict(_fields(path.read_bytes()))
        shape = tuple(fields.get(number, 0) for number in (1, 2, 3, 4))
        values = array("f", fields.get(5, b""))
    except (IndexError, ValueError):
        raise DataError(f"{path}: damaged, no mean image of Caffe's; {advice}") from None
    if shape != wanted or len(values) != math.prod(wanted):
        raise DataError(
            f"{path}: {len(values):,} values of shape {shape}, where the pictures' mean has "
            f"{math.prod(wanted):,} of {wanted}; {advice}"
        )
    if not math.isfinite(sum(values)):
        raise DataError(f"{path}: holds a value that is not finite; {advice}")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number, value) of each field of a serialized protobuf message.

    Raises IndexError or ValueError where it is none.
    """
    place = 0

    def number() -> int:
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = message[place]
            value |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number without an end")

    while place < len(message):
        tag = number()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, number()
            continue
        if kind not in (1, 2, 5):
            raise ValueError("a field of no known kind")
        length = number() if kind == 2 else {1: 8, 5: 4}[kind]
        if place + length > len(message):
            raise ValueError("a field cut short")
        yield tag >> 3, message[place : place + length]
        place += length
