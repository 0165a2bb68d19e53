"""A data set's data folder, made once; heavy imports wait until something has to be made."""

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep import DataError
from data_prep.datasets import DATASETS, Source, entry_of, module_of, name_of
from data_prep.files import file_source, only_one
from data_prep.manifest import (
    MEANS,
    PIXELS,
    check_asked,
    check_pictures,
    data_folder,
    read_manifest,
)

if TYPE_CHECKING:
    from data_prep.folder import Listing


def prepare(
    *,
    dataset: str,
    root: Path,
    side: int,
    channels: int,
    mean: str,
    subset: int | None = None,
    images: Path | None = None,
    archive: Path | None = None,
    encoding: str | None = None,
    skip: bool = False,
) -> None:
    """Make a data set's data folder below root, or say that it is there, made as asked.

    See check_options for the rest. encoding: None takes what is there, or the data set's default.
    skip: leave pictures out that cannot be used, instead of stopping at the first.
    Raises DataError where an option makes no sense, an input cannot be used, a file cannot be
    written, a Python package is missing, or the folder was made with other settings. After an
    error or an interrupt, the same call continues what was begun.
    """
    check_options(
        dataset=dataset,
        side=side,
        channels=channels,
        mean=mean,
        subset=subset,
        images=images,
        archive=archive,
        encoding=encoding,
    )
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # of broken pictures: DataErrors name them
    name = name_of(dataset, images)
    target = data_folder(root, name, side, channels, subset)
    asked = {"mean": mean} | ({"encoding": encoding} if encoding else {})
    listed = None
    try:
        if images:
            source = listed = module_of(dataset).listing(images, skip)
        else:
            source = Source(target.parent / "raw", archive)
            if archive:
                if not archive.is_file():
                    raise DataError(f"{archive}: there is no such archive; correct its path")
                asked["sources"] = [file_source(archive)]
        if _is_ready(target, asked, listed):
            return
        with only_one(target.parent):
            if _is_ready(target, asked, listed):  # made by the process that this one waited for
                return
            started = time.monotonic()
            pictures = module_of(dataset).load(source)
            for note in pictures.notes:
                print(note, flush=True)
            from data_prep.build import build  # imports Caffe, which takes a second

            build(
                target,
                name,
                pictures,
                side=side,
                channels=channels,
                mean=mean,
                encoding=encoding or DATASETS[dataset].encoding,
                count=subset,
                skip=skip,
            )
    except OSError as error:
        place = error.filename or root  # a write that fails has no file name
        advice = "free some space" if error.errno == errno.ENOSPC else "mend that"
        raise DataError(f"{place}: {error.strerror}; {advice}, or use another data root") from None
    except ModuleNotFoundError as error:
        raise DataError(f"{error}; run `make caffe`, which installs it") from None
    manifest = read_manifest(target)
    train, test = (manifest["counts"][split] for split in ("train", "test"))
    seconds = time.monotonic() - started
    print(f"{target}: {train} + {test} pictures in {seconds:.1f} s{_left_out(manifest)}")


def check_options(
    *,
    dataset: str,
    side: int,
    channels: int,
    mean: str,
    subset: int | None,
    images: Path | None,
    archive: Path | None,
    encoding: str | None,
) -> None:
    """Raise DataError where an option of prepare is not known, out of range, missing or idle.

    dataset: a name of the table DATASETS. side, channels: of the pictures, in pixels, and 1 or 3.
    mean: one of manifest.MEANS. subset: how many evenly spaced pictures of each split, None
    for all. images: the folder of a data set that is made of a folder of pictures. archive: what
    a data set that takes one is read from. encoding: ``raw``, ``png``, ``jpeg`` or None.
    """
    entry = entry_of(dataset)
    for option, value, known in (
        ("channels", channels, (1, 3)),
        ("mean", mean, MEANS),
        ("encoding", encoding, (None, *PIXELS)),
    ):
        if value not in known:
            listed = ", ".join(str(each) for each in known if each)
            raise DataError(f"{option} {value} is not known; there are {listed}")
    for option, number in (("side", side), ("subset", subset)):
        if number is not None and number < 1:
            raise DataError(f"{option} {number} is not above zero")
    if entry.pictures and not images:
        raise DataError(f"{dataset} is made of a folder of pictures; name it (IMAGES=, --images)")
    if images and not entry.pictures:
        takers = ", ".join(name for name, each in DATASETS.items() if each.pictures)
        raise DataError(f"{dataset} takes no folder of pictures; only {takers} do")
    if archive and not entry.archive:
        takers = ", ".join(name for name, each in DATASETS.items() if each.archive)
        raise DataError(f"{dataset} is read from no archive; only {takers} is")


def _is_ready(target: Path, asked: dict, listed: "Listing | None") -> bool:
    """Tell whether the data folder is there; DataError where it was not made as asked.

    listed: what lies in the folder of pictures, where the data set is made of one.
    """
    if target.exists() and not target.is_dir():
        raise DataError(f"{target}: is there and is no folder; remove it")
    if not target.is_dir():
        return False
    manifest = read_manifest(target)
    check_asked(target, manifest, asked)
    if listed:
        check_pictures(target, manifest, listed.sources, listed.signature, listed.contents)
    print(f"{target} is ready{_left_out(manifest)}")
    return True


def _left_out(manifest: dict) -> str:
    """Return the clause that says how many pictures were left out, '' where none was."""
    number = sum(map(len, manifest.get("left_out", {}).values()))
    return f"; {number} unreadable ones were left out (manifest.json names them)" if number else ""
