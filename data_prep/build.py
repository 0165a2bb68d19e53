"""Makes a whole data folder: two LMDBs, the mean image, the manifest; all of it or none."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2

from data_prep import DataError
from data_prep.dataset import Dataset, check, subset
from data_prep.files import sync, write_synced
from data_prep.lmdb_writer import estimate_bytes, record_keys, write_lmdb
from data_prep.mean_image import imagenet_mean, to_binaryproto, train_mean

PIXELS = {
    "raw": "exact",
    "png": "exact (PNG is lossless)",
    "jpeg": "JPEG of quality 95: a departure, the pixels differ from the raw ones",
}


def build(
    folder: Path,
    name: str,
    dataset: Dataset,
    *,
    side: int,
    channels: int,
    mean: str,
    encoding: str,
    seed: int,
    count: int | None,
) -> None:
    """Make the data folder of a data set; the caller holds its parent folder (only_one).

    count: pictures of each split to keep, None for all. Written beside and renamed when complete.
    Raises DataError where an input can't be used or the disk is too small; nothing is left then.
    """
    image = imagenet_mean(side, channels) if mean == "imagenet" else None
    check(dataset)
    splits = {"train": dataset.train, "test": dataset.test}
    if count:
        splits = {split: subset(rows, count) for split, rows in splits.items()}
    for rows in splits.values():
        record_keys(rows, seed)
    sizes = [estimate_bytes(rows, side, channels, encoding) for rows in splits.values()]
    _check_space(folder.parent, sum(sizes))

    for leftover in folder.parent.glob(".*.partial"):  # of a build that was killed
        shutil.rmtree(leftover)
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir()
    try:
        lmdb_sha256 = {
            split: write_lmdb(partial / f"{split}_lmdb", rows, side, channels, encoding, seed)
            for split, rows in splits.items()
        }
        if image is None:
            image = train_mean(partial / "train_lmdb")
        write_synced(partial / "mean.binaryproto", to_binaryproto(image))
        manifest = {
            "dataset": name,
            "side": side,
            "channels": channels,
            "mean": mean,
            "encoding": encoding,
            "pixels": PIXELS[encoding],
            "seed": seed,
            "subset": count,
            "counts": {split: len(rows.keys) for split, rows in splits.items()},
            "classes": list(dataset.classes),
            "order": dataset.order,
            "row_order_sha256": {split: row_order(rows.keys) for split, rows in splits.items()},
            "lmdb_sha256": lmdb_sha256,
            "sources": dataset.sources,
            "notes": dataset.notes,
            "opencv": cv2.__version__,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        write_synced(partial / "manifest.json", text.encode())
        sync(partial)
        partial.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def row_order(keys: Iterable[str]) -> str:
    """Return the SHA-256 of a split's keys in its own order, joined by newlines."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: the LMDBs need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "free some, use another data root, keep fewer pictures (--subset), or store them as "
            "--encoding png (the same pixels) or jpeg"
        )
