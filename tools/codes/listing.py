"""Picture files of one's own: those that a list, a folder or a path names."""

import os
from pathlib import Path

from data_prep.class_folders import is_picture
from data_prep.files import walk
from tools.run.failure import Failure


def list_pictures(given: str, variable: str = "IMAGES") -> list[Path]:
    """Return the picture files that a variable of make names: a list, a folder, or one picture.

    A list is a text file with a path a line, relative to the list's folder or absolute; a label
    behind it, as in train.txt, is passed over. A folder gives its pictures at any depth, sorted,
    as files.walk finds them. Raise Failure where there is none; a listed one that is missing is
    found when it is to be read.
    """
    path = Path(given)
    if path.is_dir():
        found = sorted(file for file in walk(path) if is_picture(file.name))
        if not found:
            raise Failure(f"{variable}={given}: there is no picture in this folder")
        return found
    if not path.is_file():
        raise Failure(f"{variable}={given}: there is no such list, folder or picture")
    if is_picture(path.name):
        return [path]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise Failure(
            f"{variable}={given}: neither a picture by its name nor a list in UTF-8, a path a line"
        ) from None
    found = [_listed(path.parent, line.rstrip()) for line in lines if line.strip()]
    if not found:
        raise Failure(f"{variable}={given}: this list is empty")
    return found


def _listed(folder: Path, line: str) -> Path:
    picture = folder / line
    if not picture.is_file():
        start, _, label = line.rpartition(" ")
        if label.isdecimal() and (folder / start).is_file():
            return folder / start
    return picture


def origin_of(given: str, caffemodel: Path) -> str:
    """Return what codes are of: these pictures, by this model."""
    return f"{Path(os.path.realpath(given))} by {caffemodel.resolve()}"
