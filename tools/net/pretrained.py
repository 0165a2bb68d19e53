"""Pretrained and given caffemodels: where training starts from (WEIGHTS), fetched and verified."""

from pathlib import Path

from data_prep import DataError
from data_prep.download import download
from data_prep.files import file_digest
from tools.run.failure import Failure, writing
from tools.run.job import REPO
from tools.run.nets import nets, pretrained

FOLDER = REPO / "weights"


def find(weights: str) -> Path | None:
    """Return the path of WEIGHTS ("none", a name in nets.toml, a path), None for "none".

    A model by name is downloaded, resumed and verified into weights/; a path must exist.
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
    if not path.exists():
        try:
            with writing("give a copy that you have, WEIGHTS=path"):
                download(entry["urls"], path, f"sha1:{entry['sha1']}")
        except DataError as error:
            ways = "a copy that you have (WEIGHTS=path)"
            if all(net.fillers for net in nets().values() if net.weights == name):
                ways += ", or training from scratch (WEIGHTS=none)"
            raise Failure(f"{error}. How to go on: {ways}") from None
    elif file_digest(path, "sha1") != entry["sha1"]:
        raise Failure(
            f"{path} is not the model zoo's file, whose SHA-1 is {entry['sha1']}: remove it to "
            "fetch it again, or give it as WEIGHTS=path if it is what you want"
        )
    return path


def is_absent(weights: str) -> bool:
    """Return whether WEIGHTS is a model by name that would have to be fetched."""
    return weights in pretrained() and not (FOLDER / pretrained()[weights]["file"]).exists()
