"""CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 colour 32 x 32 pictures.

From the official binary archive, or from an archive of pictures (zip or tar) that holds
``train/<class>/...`` and ``test/<class>/...``, as the releases trained from JPEG copies.
"""

import hashlib
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep import DataError
from data_prep.class_folders import ORDER, arrange, is_picture, refuse_shared, skipped_note
from data_prep.dataset import Dataset, Split
from data_prep.datasets import Source
from data_prep.download import download
from data_prep.files import file_digest, file_source

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
SIZES = {"train": 50_000, "test": 10_000}
BATCHES = {
    "train": [f"data_batch_{batch}.bin" for batch in range(1, 6)],
    "test": ["test_batch.bin"],
}
RECORD = 1 + 3 * 32 * 32  # a label byte, then the red, green and blue planes
ARCHIVE_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError),
    *(zlib.error, lzma.LZMAError, struct.error, UnicodeDecodeError, OSError),
)
MOST_BYTES = 2 << 30  # of an archive's files, all in memory: CIFAR-10 itself has 184 MB


def load(source: Source) -> Dataset:
    """Return CIFAR-10 from an archive, by default the official one, fetched where it is missing."""
    archive = source.archive
    if archive is None:
        archive = source.raw / PurePosixPath(URL).name
        if not archive.is_file():
            download([URL], archive, f"md5:{MD5}")
    members = read_archive(archive)
    if any(PurePosixPath(name).name == "data_batch_1" for name in members):
        raise DataError(f"{archive}: this is the pickled version; give the binary one ({URL})")
    if any(PurePosixPath(name).name == "data_batch_1.bin" for name in members):
        if file_digest(archive, "md5") != MD5:
            raise DataError(f"{archive}: its MD5 is not {MD5}; delete it and fetch {URL} again")
        dataset = from_binary(archive, members)
    else:
        dataset = from_pictures(archive, members)
    dataset.sources = [file_source(archive)]
    return dataset


def read_archive(path: Path) -> dict[str, bytes]:
    """Return the files of a zip or tar archive by their path in it, all in memory.

    Raises DataError for one that is damaged, encrypted, or packed by a way that is not known here,
    and where its files say that they have more than MOST_BYTES.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                items = [item for item in archive.infolist() if not item.is_dir()]
                _refuse_large(path, sum(item.file_size for item in items))
                return {item.filename: archive.read(item) for item in items}
        with tarfile.open(path) as archive:
            items = [item for item in archive if item.isfile()]
            _refuse_large(path, sum(item.size for item in items))
            return {item.name: archive.extractfile(item).read() for item in items}
    except ARCHIVE_DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; gzip's and bzip2's own have no number
        raise DataError(f"{path}: not a whole zip or tar archive; fetch it again") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted; compressed in another way
        raise DataError(f"{path}: cannot be unpacked ({error}); pack it anew, plainly") from None


def _refuse_large(path: Path, size: int) -> None:
    """Raise DataError for an archive whose files have too many bytes."""
    if size > MOST_BYTES:
        raise DataError(
            f"{path}: its files have {size:,} bytes, more than {MOST_BYTES:,}; give CIFAR-10 alone"
        )


def from_binary(archive: Path, members: dict[str, bytes]) -> Dataset:
    """Return the data set of the binary version's files, in the archive's own order."""
    files = {PurePosixPath(name).name: data for name, data in members.items()}
    splits = {}
    for name, batches in BATCHES.items():
        records = np.frombuffer(b"".join(files[batch] for batch in batches), np.uint8)
        records = records.reshape(-1, RECORD)
        rgb = records[:, 1:].reshape(-1, 3, 32, 32)
        splits[name] = Split(
            keys=[f"{name}/{row:08d}" for row in range(len(records))],
            labels=records[:, 0].astype(np.int32),
            read=np.ascontiguousarray(rgb[:, ::-1].transpose(0, 2, 3, 1)).__getitem__,
            origin=archive,
        )
    classes = files["batches.meta.txt"].decode().split()
    return Dataset(classes=classes, sources=[], order="the archive's own order", **splits)


def from_pictures(archive: Path, members: dict[str, bytes]) -> Dataset:
    """Return the data set of an archive's pictures, below train/ and test/ at any depth."""
    pictures, skipped = {}, []
    for name, data in members.items():
        parts = PurePosixPath(name).parts
        top = next((place for place, part in enumerate(parts) if part in SIZES), None)
        if top is not None and len(parts) - top >= 3 and is_picture(name):
            pictures["/".join(parts[top:])] = data
        else:
            skipped.append(name)
    if not pictures:
        raise DataError(
            f"{archive}: neither CIFAR-10's binary version nor pictures in train/<class>/ and "
            "test/<class>/; give one of these"
        )
    refuse_shared(archive, *(_checksums(pictures, split) for split in SIZES))
    classes = sorted({path.split("/")[1] for path in pictures})
    notes = skipped_note(archive, skipped)
    splits = {}
    for name, size in SIZES.items():
        keys, labels = arrange(pictures, name, classes)
        if len(keys) != size:
            notes.append(f"{archive}: {len(keys)} {name} pictures, not CIFAR-10's {size}")
        splits[name] = Split(
            keys=keys,
            labels=labels,
            read=[pictures[key] for key in keys].__getitem__,
            origin=archive,
        )
    return Dataset(classes=classes, sources=[], order=ORDER, notes=notes, **splits)


def _checksums(pictures: dict[str, bytes], split: str) -> Iterator[tuple[str, str]]:
    for path, data in pictures.items():
        if path.startswith(f"{split}/"):
            yield hashlib.sha256(data).hexdigest(), path
