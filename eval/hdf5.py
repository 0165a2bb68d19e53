"""HDF5 files that may be damaged: opened, and every way to fail made one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from eval.files import InputError

# What h5py raises where bytes of a file have changed; HDF5's own messages name no file.
DAMAGE = (
    *(OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError),
    *(MemoryError, OverflowError, NotImplementedError),
)


@contextmanager
def open_hdf5(path: str | Path, again: str) -> Iterator[h5py.File]:
    """Open an HDF5 file to be read.

    again: the clause that says what to do about a damaged one. Raises InputError, naming the file,
    where it is missing or no regular file, and in place of whatever h5py raises in the block.
    """
    if not Path(path).is_file():
        what = "is no regular file" if Path(path).exists() else "does not exist"
        raise InputError(f"{path} {what}; {again}")
    try:
        with h5py.File(path, "r") as file:
            _check_sizes(file, Path(path).stat().st_size)
            yield file
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(
            f"{path} cannot be read as HDF5 (truncated, damaged inside, or another format); "
            f"{again} ({' '.join(str(error).split()) or type(error).__name__})"
        ) from None


def text_of(value: object) -> str | None:
    """Return an attribute's text; None where it is none."""
    value = value.decode() if isinstance(value, bytes) else value
    return str(value) if isinstance(value, str) else None


def texts_of(value: object) -> list[str] | None:
    """Return the texts in an attribute; None where it is no list of them."""
    texts = [text_of(each) for each in value] if np.ndim(value) == 1 else [None]
    return None if None in texts else texts


def _check_sizes(file: h5py.File, size: int) -> None:
    """Raise OSError where a dataset that is not compressed claims more bytes than the file has."""

    def look(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is None and item.nbytes > size:
            raise OSError(f"'{name}' claims {item.nbytes:,} bytes of a file of {size:,}")

    file.visititems(look)
