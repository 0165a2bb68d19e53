"""The list files of one's own pictures: lines of `path label`, or of a path and several labels.

Several labels are numbers with blanks between, ``a/1.jpg 3 17 42``, or names with commas between,
``a/1.jpg sky,traffic light``; ``classes.txt``, a name a line, then says which classes there are,
and a path ends as a picture's name does. Lists are of several labels where a line has more than
one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_prep import DataError
from data_prep.class_folders import PICTURE_SUFFIXES
from data_prep.dataset import to_labels

_SUFFIX = "|".join(re.escape(suffix) for suffix in sorted(PICTURE_SUFFIXES))
_PICTURE = re.compile(rf"(?P<path>.*[^/](?:{_SUFFIX}))(?: +(?P<labels>.*))?", re.IGNORECASE)
_MORE = re.compile(r"\d+(?: +\d+)+|.*,.*")  # labels that are more than one
LONGEST = 9  # digits of a label's number


def read(images: Path, files: dict[str, Path]) -> tuple[dict, dict, list[str]]:
    """Return (keys, labels, classes) of list files, the first two by split.

    files: by split. Keys are paths as they stand. Labels are (N,) int32, or (N, L) uint8 of 0 and
    1. Raises DataError, naming the file and the line, for what is none.
    """
    names = images / "classes.txt"
    classes = [line.strip() for line in _lines(names) if line.strip()] if names.is_file() else None
    if any(_has_several(images, line) for file in files.values() for line in _lines(file)):
        if not classes:
            raise DataError(
                f"{images}: the lists have several labels a picture, so that the classes stand in "
                "classes.txt, a name a line; put it there"
            )
        listed = {split: _read_several(file, names, classes) for split, file in files.items()}
        return *({split: both[at] for split, both in listed.items()} for at in (0, 1)), classes
    listed = {split: _read_list(file) for split, file in files.items()}
    keys = {split: list(lines) for split, (lines, _) in listed.items()}
    pictures = sum(map(len, keys.values()))
    labels = {
        split: to_labels(files[split], list(lines.values()), texts, pictures)
        for split, (lines, texts) in listed.items()
    }
    if classes is None:
        count = max(1 + max(of_split, default=-1) for of_split in labels.values())
        classes = [str(label) for label in range(count)]
    return keys, labels, classes


def _read_list(path: Path) -> tuple[dict[str, int], list[str]]:
    """Return a list file's paths, each with its line's number, and their labels as they stand.

    A path may hold spaces, as in convert_imageset. Raises DataError for one that is listed twice.
    """
    lines, labels = {}, []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        key, _, label = line.rstrip().rpartition(" ")
        if not key or "\0" in key or not label.isdecimal():
            raise DataError(
                f"{path}, line {number}: {line!r} is not `path label` with a label from 0 up; "
                "correct the line"
            )
        _note_line(path, lines, key, number)
        labels.append(label)
    return lines, labels


def _note_line(path: Path, lines: dict[str, int], key: str, number: int) -> None:
    if key in lines:
        raise DataError(
            f"{path}, lines {lines[key]} and {number}: both list {key}; remove one of them"
        )
    lines[key] = number


def _has_several(images: Path, line: str) -> bool:
    """Tell whether a line has more than one label, not one behind a path that ends in numbers."""
    if line.count(" ") < 2 and "," not in line:
        return False
    found = _PICTURE.fullmatch(line.rstrip())
    if not found or not _MORE.fullmatch(found["labels"] or ""):
        return False
    return not (images / line.rstrip().rpartition(" ")[0]).is_file()


def _read_several(path: Path, names: Path, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the paths of a list file with several labels, and these as (N, L) uint8 of 0 and 1.

    names: the file of the classes, whose names are the L classes.
    """
    label_of = {name: label for label, name in enumerate(classes)}
    lines, found = {}, []
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            raise DataError(f"{where}: is empty; remove the line")
        picture = _PICTURE.fullmatch(line.rstrip())
        if not picture or "\0" in line:
            raise DataError(
                f"{where}: {line!r} is not a picture's path and its labels; correct the line"
            )
        _note_line(path, lines, picture["path"], number)
        found.append(_labels(picture["labels"] or "", label_of, where, names))
    labels = np.zeros((len(found), len(classes)), np.uint8)
    for row, of_picture in enumerate(found):
        labels[row, of_picture] = 1
    return list(lines), labels


def _labels(text: str, label_of: dict[str, int], where: str, names: Path) -> list[int]:
    """Return the numbers of a line's labels; where: the file and the line, for messages."""
    words = re.split("[ ,]+", text.strip()) if text.strip() else []
    if all(word.isdecimal() for word in words):
        for word in words:
            if len(word) > LONGEST or int(word) >= len(label_of):
                raise DataError(
                    f"{where}: the label {word} is outside 0..{len(label_of) - 1}, the classes of "
                    f"{names}; correct either"
                )
        labels = [int(word) for word in words]
    else:
        words = [word.strip() for word in text.split(",")]
        unknown = [word for word in words if word not in label_of]
        if unknown:
            raise DataError(
                f"{where}: the class {unknown[0]!r} is not in {names}; correct either (names stand "
                "between commas)"
            )
        labels = [label_of[word] for word in words]
    if len(set(labels)) < len(labels):
        raise DataError(
            f"{where}: a label stands there twice; name each once, not as a row of 0 and 1"
        )
    return labels


def _lines(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
