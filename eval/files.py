"""Files that are whole or absent, and the error that a bad input file raises."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path


class InputError(ValueError):
    """An input is wrong; the message is one sentence: the file, what is wrong, what to do."""


def read_json(path: Path, needed: Sequence[str], maker: str) -> dict:
    """Return the object in a JSON file, which must have the `needed` keys.

    maker: the command that writes such a file.
    Raises InputError, naming the file and `maker`, where it is missing, damaged or lacks one.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run {maker}") from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); remove it and run {maker}") from None
    for name in needed:
        if name not in content:
            raise InputError(f"{path} lacks '{name}'; remove it and run {maker}")
    return content


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The block creates the temporary file and closes it. It is synced to disk before the rename,
    so `path` is never half written; if the block raises, the temporary file is removed and an
    older `path` stays as it was. What killed processes have left beside `path` is removed first.
    """
    path = Path(path)
    stem = f".{path.name}.partial-"
    for left in path.parent.glob(f"{escape(stem)}[0-9]*"):
        if not _lives(left.name.removeprefix(stem)):
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{stem}{os.getpid()}")
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    return Path("/proc", pid).exists()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_room(path: Path, size: int) -> None:
    """Raise OSError, naming `path`, where its folder has no room for `size` more bytes.

    HDF5 may end the process where a disk fills up, so that what it is to write is tried first.
    """
    trial = path.with_name(f".{path.name}.partial-{os.getpid()}-room")
    try:
        with open(trial, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        trial.unlink(missing_ok=True)
