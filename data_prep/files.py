"""Files and folders: listings, pictures, checksums, writes that outlast a crash, and a lock."""

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from data_prep import DataError

MOST_BYTES = 256 << 20  # of a picture's file: more is a mistake, or would fill the memory
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, in no order, without hidden ones and those in hidden folders.

    Linked folders are followed, but for a link to a folder that it lies in. Raises DataError for a
    folder that cannot be listed: its pictures would be missing without a word.
    """
    above = {os.fspath(each) for each in folder.resolve().parents}
    for place, folders, names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        below = Path(place).relative_to(folder)
        around = above | {os.path.realpath(folder / each) for each in (below, *below.parents)}
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(place, name)) not in around
        ]
        yield from (Path(place, name) for name in names if name[0] != ".")


def _refuse_folder(error: OSError) -> None:
    """Raise DataError in place of the error that os.walk passes over."""
    raise DataError(
        f"{error.filename}: this folder cannot be read ({error.strerror}); make it readable, or "
        "take it out"
    )


def walk_whole(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what os.walk does; raise DataError for a folder that cannot be listed."""
    yield from os.walk(folder, onerror=_refuse_folder)


def read_regular(path: Path | str) -> bytes:
    """Return a picture file's content; read nothing but a regular file of at most MOST_BYTES.

    A pipe or a device would hang or never end: it is opened without waiting and only looked at.
    Raises DataError (without the file's name, which the caller adds) where that is not so or the
    file cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:  # without a file object, which takes longer than all that is done here
            status = os.fstat(handle)
            refuse_irregular(status)
            content = os.read(handle, status.st_size)
            while rest := status.st_size - len(content):  # as some file systems do
                if not (more := os.read(handle, rest)):
                    break
                content += more
            return content
        finally:
            os.close(handle)
    except ValueError:
        raise DataError("cannot be read: its name has a NUL") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            refuse_irregular(os.stat(path))  # a folder or a socket cannot even be opened
        raise DataError(f"cannot be read: {error.strerror}") from None


def refuse_irregular(status: os.stat_result) -> None:
    """Raise DataError (without the file's name) for what is not a regular file, or is too large."""
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for is_kind, kind in KINDS if is_kind(status.st_mode)), "no regular file")
        raise DataError(f"is {kind}, not a picture's file")
    if status.st_size > MOST_BYTES:
        raise DataError(
            f"has {status.st_size:,} bytes, and a picture's file may have {MOST_BYTES >> 20} MiB"
        )


def file_digest(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hex. algorithm: ``md5``, ``sha1`` or ``sha256``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def file_source(path: Path) -> dict[str, str]:
    """Return what a manifest says of a source file: its ``file`` (name) and ``sha256``."""
    return {"file": path.name, "sha256": file_digest(path, "sha256")}


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, on disk (fsync) when this returns; a kill in the middle leaves a part of it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename_synced(partial: Path, path: Path) -> None:
    """Give what was written beside its final name, on disk (fsync) when this returns.

    Raises DataError where something else than a file or a folder, such as a device, has that name.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: is there and is no regular file; give another name")
    sync(partial)
    partial.rename(path)
    sync(path.parent)


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Lock a data set's folder: one process at a time fetches and builds it, the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another process is preparing {folder}; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
