"""The pictures that the page uploads: in a folder, bounded by number and bytes, each for a time.

Whoever uploads more than a share loses the oldest of these, not the room of others. The folder is
locked for as long as the server lives: a later one removes what a killed one left.
"""

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tools.serve.limits import (
    KEEP_SECONDS,
    PEER_UPLOADS,
    PEER_UPLOADS_BYTES,
    UPLOADS,
    UPLOADS_BYTES,
    Refused,
)

PREFIX = "ssdh-uploads-"


class Upload(NamedTuple):
    """A file of the folder: the address that it came from, its size in bytes, and when it ends."""

    peer: str
    size: int
    until: float


@contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a new folder for uploads; remove it in the end, and at once those of dead servers."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():  # another server may have found it before it was locked
            break
        os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


class Uploads:
    """The folder's files by path, oldest first, counted as they come and go."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder."""
        self.folder = folder
        self.name = re.compile(re.escape(str(folder)) + r"/[0-9a-f]{64}/picture(?:\.[0-9A-Za-z]+)?")
        self.files: OrderedDict[str, Upload] = OrderedDict()
        self.size = 0
        self.shares: dict[str, list[int]] = {}  # of each address: files, bytes

    async def add(self, peer: str, name: str, content: bytes) -> str:
        """Write an uploaded file; return its path.

        peer: the address that it came from. name: the file's own, of which the ending is kept.
        Raise Refused where the disk does not take it.
        """
        self.expire()
        ending = os.path.splitext(name)[1][:8]
        ending = ending if ending[1:].isascii() and ending[1:].isalnum() else ""
        try:
            path = await asyncio.to_thread(self._write, peer, f"picture{ending}", content)
        except OSError as error:
            raise Refused(503, f"The server cannot keep the picture: {error.strerror}.") from None
        if path in self.files:
            self._forget(path)
        self.files[path] = Upload(peer, len(content), time.monotonic() + KEEP_SECONDS)
        self.size += len(content)
        share = self.shares.setdefault(peer, [0, 0])
        share[0] += 1
        share[1] += len(content)
        while share[0] > PEER_UPLOADS or share[1] > PEER_UPLOADS_BYTES:
            self.drop(self._oldest(peer))
        while len(self.files) > UPLOADS or self.size > UPLOADS_BYTES:
            self.drop(self._oldest(max(self.shares, key=lambda each: self.shares[each][1])))
        return path

    def _write(self, peer: str, name: str, content: bytes) -> str:
        """Write a file where no other address's can be; return its path."""
        folder = self.folder / hashlib.sha256(peer.encode() + b"\0" + content).hexdigest()
        folder.mkdir(exist_ok=True)
        try:
            (folder / name).write_bytes(content)
        except OSError:
            (folder / name).unlink(missing_ok=True)
            raise
        return str(folder / name)

    def _oldest(self, peer: str) -> str:
        """Return the path of an address's oldest file."""
        return next(path for path, each in self.files.items() if each.peer == peer)

    def gave(self, path: object) -> bool:
        """Return whether a path is one as add() returns them, whether or not the file is there."""
        return isinstance(path, str) and bool(self.name.fullmatch(path))

    def expire(self) -> None:
        """Remove the files whose time is over."""
        now = time.monotonic()
        while self.files and next(iter(self.files.values())).until < now:
            self.drop(next(iter(self.files)))

    def drop(self, path: str) -> None:
        """Remove a file."""
        self._forget(path)
        shutil.rmtree(Path(path).parent, ignore_errors=True)

    def _forget(self, path: str) -> None:
        """Count a file no longer."""
        upload = self.files.pop(path)
        self.size -= upload.size
        share = self.shares[upload.peer]
        share[0] -= 1
        share[1] -= upload.size
        if not share[0]:
            del self.shares[upload.peer]
