"""Files and folders: listings, checksums, writes that outlast a crash, and a lock."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, in no order, without hidden ones and those in hidden folders.

    Linked folders are followed, but for a link to a folder that it lies in.
    """
    above = {os.fspath(each) for each in folder.resolve().parents}
    for place, folders, names in os.walk(folder, followlinks=True):
        below = Path(place).relative_to(folder)
        around = above | {os.path.realpath(folder / each) for each in (below, *below.parents)}
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(place, name)) not in around
        ]
        yield from (Path(place, name) for name in names if name[0] != ".")


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
    """Give what was written beside its final name, on disk (fsync) when this returns."""
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
