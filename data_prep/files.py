"""Files that are whole or absent, and their checksums."""

import hashlib
import os
from pathlib import Path


def file_digest(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hex. algorithm: ``md5``, ``sha1`` or ``sha256``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, on disk (fsync) when this returns; callers write beside and then rename."""
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
