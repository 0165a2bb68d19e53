"""The picture files that ADD names, as the index keeps them: by absolute paths."""

import os
from pathlib import Path

from data_prep.class_folders import is_picture
from data_prep.files import walk
from tools.run.failure import Failure


def pictures_of(path: Path) -> list[Path]:
    """Return the picture files of a path, itself or those below it, absolute and sorted.

    Raise Failure where there is none, or where a name is not UTF-8.
    """
    if not path.exists():
        raise Failure(f"ADD={path}: there is no such file or folder")
    below = walk(path) if path.is_dir() else [path]
    files = sorted({Path(os.path.realpath(file)) for file in below if is_picture(file.name)})
    if not files:
        raise Failure(f"ADD={path}: there is no picture")
    for file in files:
        try:
            os.fspath(file).encode()
        except UnicodeEncodeError:
            raise Failure(
                f"{os.fsencode(file)}: its name is not UTF-8, as a key must be: rename it"
            ) from None
    return files
