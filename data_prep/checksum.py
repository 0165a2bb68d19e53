"""Checksums of files."""

import hashlib
from pathlib import Path


def file_digest(path: Path, algorithm: str) -> str:
    """Return a file's checksum in hex. algorithm: ``md5``, ``sha1`` or ``sha256``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
