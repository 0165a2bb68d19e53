"""Pictures per second of our LMDB writer beside Caffe's convert_imageset, on the same JPEG files.

    make bench-data [CIFAR10_ARCHIVE=an archive of pictures; else they are generated]

Both resize the same pictures to 32x32x3 and to 256x256x3, raw, in the same order, on warm file
caches, in turns within one run. Both LMDBs end on disk: convert_imageset syncs every 1,000
pictures, ours once before it returns. convert_imageset's time is its whole process, whose start is
a few hundredths of a second; ours is write_lmdb's call, without Python's start and with the SHA-256
that it takes of all records. Afterwards the Datums of both are compared byte by byte.

Before each run as much memory is touched and freed as either needs: on a virtual machine that gives
its free memory back to the host, the first use of a page takes longer than all that is measured.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
from caffe.proto import caffe_pb2

from data_prep.cifar10 import from_pictures, read_archive
from data_prep.dataset import Split, subset
from data_prep.folder import reader
from data_prep.lmdb_writer import shuffled_rows, write_lmdb
from tools.run import device
from tools.run.failure import Failure, carry_out
from tools.run.variables import parse

ALTERNATIONS = 5
SEED = 42
PICTURES = {32: 20_000, 256: 4_000}  # by side
CONVERT_IMAGESET = device.prefix() / "bin/convert_imageset"


def generated(folder: Path, count: int) -> Split:
    """Write seeded smooth 32 x 32 JPEGs, as large as CIFAR-10's, and return them as a split."""
    random = np.random.RandomState(SEED)
    keys = [f"{row:05d}.jpg" for row in range(count)]
    for key in keys:
        picture = cv2.resize(random.randint(0, 256, (8, 8, 3), np.uint8), (32, 32))
        cv2.imwrite(str(folder / key), picture)
    return from_files(folder, keys, np.arange(count) % 10)


def unpacked(folder: Path, archive: Path, count: int) -> Split:
    """Unpack evenly spaced training pictures of a CIFAR-10 picture archive."""
    split = subset(from_pictures(archive, read_archive(archive)).train, count)
    for row, key in enumerate(split.keys):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(split.read(row))
    return from_files(folder, split.keys, split.labels)


def from_files(folder: Path, keys: list[str], labels: np.ndarray) -> Split:
    """Return the split of JPEG files below a folder, read as one's own pictures are."""
    digests = np.zeros((len(keys), 32), np.uint8)  # which nobody asks for
    return Split(keys, labels, reader(folder, keys, digests), folder)


def time_ours(split: Split, side: int, path: Path) -> float:
    """Return the seconds write_lmdb takes to make path."""
    start = time.perf_counter()
    write_lmdb(path, split, side, 3, "raw", SEED)
    return time.perf_counter() - start


def time_caffe(split: Split, side: int, path: Path, list_file: Path) -> float:
    """Return the seconds convert_imageset takes to make path."""
    command = [CONVERT_IMAGESET, f"--resize_width={side}", f"--resize_height={side}"]
    command += [f"{split.origin}/", list_file, path]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def settle(needed: int) -> None:
    """Write what waits to be written, and have `needed` bytes of memory at hand."""
    os.sync()
    np.ones(needed, np.uint8)


def compare(ours: Path, caffes: Path) -> str:
    """Return a sentence on how the records of two LMDBs in the same order differ."""
    count = different = largest = 0
    with (
        lmdb.open(str(ours), readonly=True, lock=False) as first,
        lmdb.open(str(caffes), readonly=True, lock=False) as second,
        first.begin() as one,
        second.begin() as two,
    ):
        for (_, mine), (_, theirs) in zip(one.cursor(), two.cursor(), strict=True):
            count += 1
            if mine != theirs:
                different += 1
                mine, theirs = (caffe_pb2.Datum.FromString(value) for value in (mine, theirs))
                assert mine.label == theirs.label
                pixels = (
                    np.frombuffer(datum.data, np.uint8).astype(int) for datum in (mine, theirs)
                )
                largest = max(largest, np.abs(np.subtract(*pixels)).max())
    if not different:
        return f"all {count} Datums are equal byte by byte"
    return f"{different} of {count} Datums differ, their pixels by at most {largest}"


def bench(split: Split, side: int, folder: Path) -> None:
    """Print the table's row of one side."""
    list_file = folder / f"list-{side}.txt"
    rows = shuffled_rows(len(split.keys), SEED)
    list_file.write_text("".join(f"{split.keys[row]} {split.labels[row]}\n" for row in rows))
    ours, caffes = folder / "ours_lmdb", folder / "caffe_lmdb"
    seconds = {"write_lmdb": [], "convert_imageset": []}
    needed = 2 * len(rows) * side * side * 3  # the LMDB's pages, and what is made of them before
    for _ in range(ALTERNATIONS):
        for path in (ours, caffes):
            shutil.rmtree(path, ignore_errors=True)
        settle(needed)
        seconds["write_lmdb"].append(time_ours(split, side, ours))
        settle(needed)
        seconds["convert_imageset"].append(time_caffe(split, side, caffes, list_file))
    print(f"{side}x{side}x3 raw, {len(rows)} pictures, {ALTERNATIONS} alternations:")
    for name, times in seconds.items():
        rates = sorted(len(rows) / each for each in times)
        print(
            f"  {name:17} {statistics.median(rates):8.0f} pictures/s "
            f"({rates[0]:.0f} to {rates[-1]:.0f})"
        )
    ratios = sorted(b / a for a, b in zip(*seconds.values(), strict=True))
    print(f"  ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"  {compare(ours, caffes)}", flush=True)


def main() -> None:
    """Print the rates of both at both sides, and how their LMDBs differ."""
    given = parse(__doc__, ("CIFAR10_ARCHIVE",)).cifar10_archive
    archive = Path(given) if given else None
    if not CONVERT_IMAGESET.is_file():
        raise Failure(f"{CONVERT_IMAGESET} is missing; run 'make caffe', or set CAFFE_PREFIX")
    if archive and not archive.is_file():
        raise Failure(f"CIFAR10_ARCHIVE={archive}: there is no such archive")
    with tempfile.TemporaryDirectory(prefix="bench_data-") as name:
        pictures = Path(name, "pictures")
        pictures.mkdir()
        count = max(PICTURES.values())
        split = unpacked(pictures, archive, count) if archive else generated(pictures, count)
        print(f"OpenCV here {cv2.__version__}; {len(os.sched_getaffinity(0))} cores")
        for side, number in PICTURES.items():
            bench(subset(split, number), side, Path(name))


if __name__ == "__main__":
    carry_out(main)
