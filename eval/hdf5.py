"""HDF5 files: made on disks that may fail, and opened though they may be damaged.

Every way to fail becomes one sentence.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import h5py
import numpy as np

from eval.files import InputError, write_atomically

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


class _Disk(FileIO):
    """A file whose writes do not fail, as HDF5 sees them: where one does, it ends the process.

    failed: the first error that there was. Nothing is written after it.
    """

    failed: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of the data."""
        left = memoryview(data)
        size = len(left)
        while left and self.failed is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failed = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cut the file off, or make it longer."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0


class NewFile(h5py.File):
    """An HDF5 file that is being written."""

    def __init__(self, disk: _Disk) -> None:
        """Begin the file."""
        super().__init__(disk, "w")
        self._disk = disk

    def check(self) -> None:
        """Raise the OSError by which a write has failed: for the end of a piece of long work."""
        if self._disk.failed:
            raise self._disk.failed from None


@contextmanager
def create_hdf5(path: str | Path) -> Iterator[NewFile]:
    """Yield a new HDF5 file, which is named `path` when the block ends well.

    Raises OSError, naming `path`, where a write has failed, at the latest when the block ends, and
    whatever HDF5 said in the block of what was lost so; then nothing is left.
    """
    with write_atomically(path) as partial, _Disk(partial, "w+") as disk:
        try:
            with NewFile(disk) as file:
                yield file
        finally:
            if disk.failed:
                raise disk.failed from None


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
