"""Make a whole data folder: its LMDBs, the mean image, the manifest; all of it or none.

A build works beside the folder's final name, in ``.<name>.partial``. What it had committed there
when it was killed or stopped is kept, and a later build of the same records continues after it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from data_prep import DataError
from data_prep.dataset import Dataset, Split, check, label_counts, subset
from data_prep.files import rename_synced, write_synced
from data_prep.lmdb_reader import count as count_records
from data_prep.lmdb_reader import record_keys, row_of
from data_prep.lmdb_writer import (
    check_keys,
    chunk_size,
    estimate_bytes,
    write_labels,
    write_lmdb,
)
from data_prep.manifest import PIXELS, as_text
from data_prep.mean_image import known_mean, to_binaryproto, train_mean

SEED = 42  # of the pictures' order in the LMDBs
STATE = "build.json"  # the file of an unfinished folder that says what decides its records


def build(
    folder: Path,
    name: str,
    dataset: Dataset,
    *,
    side: int,
    channels: int,
    mean: str,
    encoding: str,
    count: int | None,
    skip: bool,
) -> None:
    """Make the data folder of a data set; the caller locks its parent folder (only_one).

    name: what the manifest calls the data set. side, channels: of the pictures to be stored, in
    pixels, and 1 or 3. mean: one of manifest.MEANS. encoding: one of manifest.PIXELS.
    count: pictures of each split to keep, None for all. skip: leave out pictures that can't be
    used. An unfinished build of the same records is continued. Raises DataError where an input
    can't be used or the disk is too small; what was committed until then is kept.
    """
    image = known_mean(mean, side, channels)
    check(dataset, skip)
    splits = dataset.splits
    if count:
        splits = {split: subset(rows, count) for split, rows in splits.items()}
    for rows in splits.values():
        check_keys(rows)
    decides = {
        "dataset": name,
        "side": side,
        "channels": channels,
        "encoding": encoding,
        "seed": SEED,
        "subset": count,
        "sources": dataset.sources,
        "signature": dataset.signature,
        "row_order_sha256": {split: row_order(rows.keys) for split, rows in splits.items()},
        "opencv": cv2.__version__,
        "chunk": chunk_size(side, channels),
    }
    partial = folder.with_name(f".{folder.name}.partial")
    _remove_unless(partial, decides)
    sizes = [estimate_bytes(rows, side, channels, encoding, skip) for rows in splits.values()]
    there = sum(file.stat().st_size for file in partial.glob("*/data.mdb"))
    _check_space(folder.parent, sum(sizes) - there)

    partial.mkdir(exist_ok=True)
    try:
        if not (partial / STATE).exists():
            write_synced(partial / STATE, json.dumps(decides, indent=1).encode())
        lmdb_sha256 = {
            split: write_lmdb(
                partial / f"{split}_lmdb",
                rows,
                side=side,
                channels=channels,
                encoding=encoding,
                seed=SEED,
                skip=skip,
            )
            for split, rows in splits.items()
        }
        if dataset.several:
            for split, rows in splits.items():
                lmdb_sha256[f"{split}_labels"] = write_labels(partial / f"{split}_lmdb", rows)
        kept = {split: _kept(partial / f"{split}_lmdb", rows) for split, rows in splits.items()}
        if skip and not count:
            check(Dataset(**kept, classes=dataset.classes, sources=[], order=""))
        for file, text in dataset.lists.items():
            write_synced(partial / file, text.encode())
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
            "seed": SEED,
            "subset": count,
            "counts": {split: len(rows.keys) for split, rows in kept.items()},
            "left_out": {split: _left_out(splits[split], kept[split]) for split in splits},
            "classes": list(dataset.classes),
            **({"several_labels": True} if dataset.several else {}),
            "labels": {
                split: label_counts(rows.labels, len(dataset.classes)).tolist()
                for split, rows in kept.items()
            },
            "order": dataset.order,
            "row_order_sha256": {split: row_order(rows.keys) for split, rows in kept.items()},
            "lmdb_sha256": lmdb_sha256,
            "sources": dataset.contents(count) if dataset.contents else dataset.sources,
            **({"signature": dataset.signature} if dataset.signature else {}),
            "notes": dataset.notes,
            "opencv": cv2.__version__,
        }
        write_synced(partial / "manifest.json", as_text(manifest).encode())
        (partial / STATE).unlink()
        rename_synced(partial, folder)
    except BaseException:
        if _begun(partial):
            print(f"{partial} keeps what is done; the same command goes on from there", flush=True)
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def row_order(keys: Iterable[str]) -> str:
    """Return the SHA-256 of a split's keys in its own order, joined by newlines."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _remove_unless(partial: Path, decides: dict) -> None:
    """Remove an unfinished folder, unless its records are those of this build."""
    if not partial.exists():
        return
    state = partial / STATE
    try:
        begun = _begun(partial)
    except DataError:
        print(f"{partial} is damaged: starting anew", flush=True)
        shutil.rmtree(partial)
        return
    try:
        there = json.loads(state.read_text()) if state.is_file() else {}
    except ValueError:  # a crash cut the file short
        there = {}
    there = there if isinstance(there, dict) else {}
    differs = [key for key in decides if there.get(key) != decides[key]]
    if differs:
        if begun:
            print(f"{partial} is of another build ({', '.join(differs)}): starting anew")
        shutil.rmtree(partial)


def _begun(partial: Path) -> bool:
    """Tell whether an unfinished folder holds pictures; DataError where an LMDB is damaged."""
    return sum(map(count_records, partial.glob("*_lmdb"))) > 0


def _kept(path: Path, rows: Split) -> Split:
    """Return the split without the rows that its LMDB has no record of."""
    if count_records(path) == len(rows.keys):
        return rows
    there = sorted(map(row_of, record_keys(path)))
    if not there:
        raise DataError(f"{rows.origin}: no picture of {path.stem} can be read; correct the folder")
    keys = [rows.keys[row] for row in there]
    return Split(keys, np.asarray(rows.labels)[there], rows.read, rows.origin)


def _left_out(asked: Split, kept: Split) -> list[str]:
    """Return the keys that were asked for and could not be used."""
    if len(asked.keys) == len(kept.keys):
        return []
    there = set(kept.keys)
    return [key for key in asked.keys if key not in there]


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: the LMDBs need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "free some, use another data root, keep fewer pictures (--subset), or store them as "
            "--encoding png (the same pixels) or jpeg"
        )
