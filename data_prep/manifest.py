"""The data folder's name and manifest.json: what it was made from, and with which settings."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from data_prep import DataError
from data_prep.files import rename_synced, write_synced
from data_prep.intact import check_mean, records_of

PIXELS = {  # what a manifest says of each encoding
    "raw": "exact",
    "png": "exact (PNG is lossless)",
    "jpeg": "JPEG of quality 95 of the resized picture, decoded whenever a net reads it: a "
    "departure, the pixels differ a little from the raw ones",
}
FILES = ("train_lmdb/data.mdb", "test_lmdb/data.mdb", "mean.binaryproto", "manifest.json")
SPLITS = ("train", "test")
ALL_SPLITS = (*SPLITS, "database")  # what is searched, where that is not the training pictures
MEANS = ("train", "imagenet", "grey")  # of the training pictures; ILSVRC 2012's; 127 everywhere
ADVICE = "remove {folder} and make it again"


def data_folder(root: Path, dataset: str, side: int, channels: int, subset: int | None) -> Path:
    """Return ``<root>/<dataset>/<side>x<channels>``, with ``-<subset>`` where only N are kept."""
    suffix = f"-{subset}" if subset else ""
    return Path(root, dataset, f"{side}x{channels}{suffix}")


def read_manifest(folder: Path) -> dict:
    """Return a data folder's manifest; DataError where the folder is incomplete or damaged.

    What is looked at costs no time: the manifest's own fields, the mean image, and what each LMDB
    says of its size and of the number of its records.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: {missing[0]} is missing; remove the folder and make it again")
    path, advice = folder / "manifest.json", ADVICE.format(folder=folder)
    manifest = read_fields(path)
    classes, labels = len(manifest["classes"]), manifest.get("labels")
    several = manifest.get("several_labels", False)
    for split, count in manifest["counts"].items():
        for name in (f"{split}_lmdb", *([f"{split}_labels_lmdb"] if several else [])):
            if not (folder / name / "data.mdb").is_file():
                raise DataError(f"{folder}: {name}/data.mdb is missing; {advice}")
            records = records_of(folder / name)
            if records != count:
                raise DataError(
                    f"{path}: counts {count:,} {split} pictures, and the LMDB holds "
                    f"{records:,}; {advice}"
                )
        if several or labels is not None:
            of_split = labels.get(split) if isinstance(labels, dict) else None
            if not _is_list(of_split, _is_number) or not _counts(of_split, count, several):
                raise DataError(f"{path}: 'labels' does not count the {split} pictures; {advice}")
            if len(of_split) != classes:
                raise DataError(
                    f"{path}: names {classes} classes, and the {split} pictures have "
                    f"{len(of_split)}; {advice}"
                )
    check_mean(folder / "mean.binaryproto", manifest["side"], manifest["channels"])
    return manifest


def _counts(labels: list[int], count: int, several: bool) -> bool:
    """Tell whether numbers of pictures by class can be those of so many pictures."""
    if several:
        return max(labels) <= count <= sum(labels)
    return sum(labels) == count


def read_fields(path: Path) -> dict:
    """Return the content of a manifest.json; DataError where it is damaged by itself."""
    advice = ADVICE.format(folder=path.parent)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); {advice}") from None
    for name, is_right, what in FIELDS:
        there = manifest.get(name) if isinstance(manifest, dict) else None
        if not is_right(there):
            raise DataError(f"{path}: '{name}' is missing, or is not {what}; {advice}")
    return manifest


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


def check_pictures(
    folder: Path,
    manifest: dict,
    sources: list[dict],
    signature: dict[str, str],
    contents: Callable[[int | None], list[dict]],
) -> None:
    """Raise DataError where the folder was made of other pictures than those in a folder now.

    sources, signature, contents: of the pictures' Listing. Paths, labels, sizes and times of change
    are compared; where only times differ, contents are read again, and where these are the same
    the manifest gets the new signature. An older manifest, without one, knows sizes alone.
    """
    there = manifest.get("signature")
    if not there:
        check_asked(folder, manifest, {"sources": sources})
        return
    by_sizes = [dict(manifest["sources"][0], sha256=there["sizes_sha256"])]
    check_asked(folder, manifest | {"sources": by_sizes}, {"sources": sources})
    if there == signature:
        return
    print(f"{folder}: the pictures' times of change are others; reading their contents", flush=True)
    check_asked(folder, manifest, {"sources": contents(manifest["subset"])})
    partial = folder / f".manifest.json.partial-{os.getpid()}"
    with suppress(OSError):  # a folder that one may only read: contents are compared again
        write_synced(partial, as_text(manifest | {"signature": signature}).encode())
        rename_synced(partial, folder / "manifest.json")


def as_text(manifest: dict) -> str:
    """Return the text of a manifest.json."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any, is_right: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_right, value))


def _is_source(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(value.get(key)) for key in ("file", "sha256"))


def _by_split(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(is_right(value.get(split)) for split in SPLITS)
    )


FIELDS = (  # what commands read of a manifest: name, check, and what it has to be
    ("side", _is_count, "a whole number above zero"),
    ("channels", lambda value: value in (1, 3), "1 or 3"),
    ("mean", _is_text, "a text"),
    ("encoding", lambda value: value in PIXELS, f"one of {', '.join(PIXELS)}"),
    ("subset", lambda value: value is None or _is_count(value), "null or a number above zero"),
    (
        "counts",
        lambda value: (
            _by_split(_is_count)(value)
            and set(value) <= set(ALL_SPLITS)
            and all(map(_is_count, value.values()))
        ),
        "the number of train and test pictures",
    ),
    ("several_labels", lambda value: value in (None, True), "true"),
    ("classes", lambda value: _is_list(value, _is_text), "a list of names"),
    ("order", _is_text, "a text"),
    ("lmdb_sha256", _by_split(_is_text), "the SHA-256 of both LMDBs"),
    ("sources", lambda value: _is_list(value, _is_source), "a list of files with their SHA-256"),
    (
        "signature",
        lambda value: (
            value is None
            or isinstance(value, dict)
            and set(value) == {"sizes_sha256", "times_sha256"}
            and all(map(_is_text, value.values()))
        ),
        "two SHA-256",
    ),
    (
        "left_out",
        lambda value: (
            value is None
            or isinstance(value, dict)
            and all(isinstance(each, list) for each in value.values())
        ),
        "lists of pictures",
    ),
)
