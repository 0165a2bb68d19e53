"""The data folder's name and manifest.json: what it was made from, and with which settings."""

import json
from pathlib import Path

from data_prep import DataError

PIXELS = {  # what a manifest says of each encoding
    "raw": "exact",
    "png": "exact (PNG is lossless)",
    "jpeg": "JPEG of quality 95 of the resized picture, decoded whenever a net reads it: a "
    "departure, the pixels differ a little from the raw ones",
}
FILES = ("train_lmdb/data.mdb", "test_lmdb/data.mdb", "mean.binaryproto", "manifest.json")


def data_folder(root: Path, dataset: str, side: int, channels: int, subset: int | None) -> Path:
    """Return ``<root>/<dataset>/<side>x<channels>``, with ``-<subset>`` where only N are kept."""
    suffix = f"-{subset}" if subset else ""
    return Path(root, dataset, f"{side}x{channels}{suffix}")


def read_manifest(folder: Path) -> dict:
    """Return a data folder's manifest; DataError where the folder is incomplete or damaged."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: {missing[0]} is missing; remove the folder and make it again")
    try:
        return json.loads((folder / "manifest.json").read_text())
    except ValueError as error:
        raise DataError(
            f"{folder}/manifest.json: not JSON ({error}); remove {folder} and make it again"
        ) from None


def check_asked(folder: Path, manifest: dict, asked: dict) -> None:
    """Raise DataError where the folder was made with something else than what was asked for.

    asked: the settings that were given, by their name in the manifest; ``sources`` is compared by
    SHA-256. What was not given never conflicts.
    """
    for name, value in asked.items():
        there = manifest[name]
        if name == "sources":
            there, value = (
                ", ".join(f"{source['file']} (SHA-256 {source['sha256'][:12]})" for source in each)
                for each in (there, value)
            )
        if value != there:
            raise DataError(
                f"{folder} was made with {name} {there}, and {value} is asked for; remove the "
                "folder to make it again, or use another data root"
            )
