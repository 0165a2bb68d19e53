"""The released models: where they are, which file of the person's is which, and their checksums.

No checksum was published. What came first is recorded by SHA-256, so that a later copy that differs
is refused; a file from elsewhere can't be verified as the release, and is marked so.
"""

import json
import re
from datetime import date
from pathlib import Path
from typing import NamedTuple

from data_prep import DataError
from data_prep.download import download
from data_prep.files import file_digest
from eval.files import read_json, write_atomically
from eval.schema import misfit
from tools.net import weights
from tools.run.failure import Failure, writing
from tools.run.job import REPO, Job

FOLDER = REPO / "weights" / "released"
DOWNLOADS = {  # (data set, net, method, bits): file and address, from the releases' own scripts
    ("cifar10", "alexnet", "kevinnet", 48): (
        "KevinNet_CIFAR10_48.caffemodel",
        "https://www.dropbox.com/s/1om7xa8mz93wkzh/KevinNet_CIFAR10_48.caffemodel?dl=1",
    ),
    ("cifar10", "alexnet", "ssdh", 48): (
        "SSDH48_iter_50000.caffemodel",
        "https://www.dropbox.com/s/6iqyz1mdhadhzbu/SSDH48_iter_50000.caffemodel?dl=1",
    ),
}
ELSEWHERE = {  # (data set, net, method): bits of the models that a person has to fetch, and where
    ("cifar10", "alexnet", "kevinnet"): (
        (12, 16, 32, 64, 128),
        "MEGA and Baidu, linked from the README of github.com/kevinlin311tw/caffe-cvprw15",
    )
}


class Model(NamedTuple):
    """A released caffemodel: its path, None where there is none (why), and a word on its origin."""

    path: Path | None
    note: str


def find(job: Job, given: str) -> Model:
    """Return the Model of a job's data set, net, method and bits.

    given: RELEASED, a caffemodel or a folder with some, or "". What it does not have is downloaded
    where that is possible. Raise Failure where a file is missing, ambiguous, or not what was
    recorded.
    """
    if given:
        path = pick(Path(given), job.bits, "*.caffemodel", "RELEASED")
        if path:
            return Model(path, origin(path))
    key = (job.dataset, job.net.name, job.method.name, job.bits)
    if key in DOWNLOADS:
        name, url = DOWNLOADS[key]
        path = fetch(name, url)
        return Model(path, origin(path))
    lengths, place = ELSEWHERE.get(key[:3], ((), ""))
    if job.bits in lengths:
        print(
            f"the released model of {job.bits} bits is on {place}; fetch it by hand and give "
            "RELEASED=file or folder"
        )
        return Model(None, "not here")
    return Model(None, "not released")


def check_given(given: str, lengths: list[int]) -> None:
    """Raise Failure where RELEASED is a folder that has no caffemodel for any of the lengths."""
    path = Path(given)
    if not given or not path.is_dir():
        return
    if not any(pick(path, bits, "*.caffemodel", "RELEASED") for bits in lengths):
        named = " or ".join(map(str, lengths))
        raise Failure(
            f"RELEASED={given}: no caffemodel in this folder has {named} in its name; name the "
            "file itself, or leave RELEASED out"
        )


def pick(path: Path, bits: int, pattern: str, variable: str) -> Path | None:
    """Return the file that a path means for a code length; None where a folder has none for it.

    In a folder it is the one whose name has the code length as a number of its own. variable: the
    one that named the path, for messages. Raise Failure where it is not there, or ambiguous.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise Failure(f"{variable}={path}: there is no such file or folder")
    number = re.compile(rf"(?<!\d){bits}(?!\d)")
    found = [file for file in sorted(path.glob(pattern)) if number.search(file.stem)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise Failure(
            f"{variable}={path}: several files have {bits} in their name ({names}): name one"
        )
    return found[0] if found else None


def fetch(name: str, url: str) -> Path:
    """Return the path of a released model in weights/released/, downloaded and its SHA-256 kept.

    A copy that somebody put there is kept by its SHA-256, too, without an address. Raise Failure
    where it cannot be fetched, is no caffemodel, or is not the file that was recorded.
    """
    path = FOLDER / name
    known = records().get(name)
    if not path.exists():
        try:
            with writing("give a copy that you have, RELEASED=file"):
                download([url], path, known and f"sha256:{known['sha256']}")
        except DataError as error:
            raise Failure(f"{error}. Or give RELEASED=, a copy that you have") from None
        try:
            weights.read(path)
        except Failure:
            path.unlink()
            raise
        if known is None:
            record(path, url)
    elif known is None:
        weights.read(path)
        record(path, "")
    elif file_digest(path, "sha256") != known["sha256"]:
        raise Failure(
            f"{path} is not the file that came on {known['date']} (another SHA-256 than in "
            f"{FOLDER / 'sha256.json'}): remove it to fetch it again"
        )
    return path


def record(path: Path, url: str) -> None:
    """Record a file's SHA-256 under its name."""
    entry = {"sha256": file_digest(path, "sha256"), "url": url, "date": str(date.today())}
    with write_atomically(FOLDER / "sha256.json") as partial:
        partial.write_text(json.dumps(records() | {path.name: entry}, indent=1) + "\n")


def records() -> dict[str, dict[str, str]]:
    """Return {file name: sha256, url, date} of what came; url is "" for a copy put there."""
    path = FOLDER / "sha256.json"
    found = read_json(path, (), "make compare") if path.exists() else {}
    for name, entry in found.items():
        if wrong := misfit(entry, {"sha256": str, "url": str, "date": str}, name):
            raise Failure(f"{path} {wrong}; remove it and run make compare")
    return found


def origin(path: Path) -> str:
    """Return what is known of a caffemodel's origin."""
    digest = file_digest(path, "sha256")
    for entry in records().values():
        if entry["sha256"] == digest and entry["url"]:
            return f"downloaded from {entry['url']} on {entry['date']}"
    return "not verified as the release"
