"""Files that are whole or absent, and the error that a bad input file raises."""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from eval.schema import misfit

FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or what a user may have of it


class InputError(ValueError):
    """An input is wrong; the message is one sentence: the file, what is wrong, what to do."""


def system_sentence(error: OSError) -> str:
    """Return a sentence for what the system refused: the file, what is wrong, what to do."""
    file = f"{error.filename}: " if error.filename else ""
    todo = "free some space" if error.errno in FULL else "mend that"
    why = error.strerror or " ".join(str(error).split())
    return f"{file}{why}; {todo}, then run the command again"


def read_json(path: Path, needed: Sequence[str], maker: str) -> dict:
    """Return the object in a JSON file, which must have the `needed` keys.

    maker: the command that writes such a file.
    Raises InputError, naming the file and `maker`, where it is missing, damaged or lacks one.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file; remove it and run {maker}")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if "\\ud" in text.lower():  # half a letter, which no page could be written with
            json.dumps(content, ensure_ascii=False).encode()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; run {maker}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; mend that") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); remove it and run {maker}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is no JSON object; remove it and run {maker}")
    for name in needed:
        if name not in content:
            raise InputError(f"{path} lacks '{name}'; remove it and run {maker}")
    return content


def read_fitting(path: Path, pattern: dict, maker: str) -> dict:
    """Return the object in a JSON file that has to fit a pattern (`eval.schema.misfit`).

    Raises InputError as `read_json` does, and where something in it does not fit.
    """
    content = read_json(path, (), maker)
    wrong = misfit(content, pattern)
    if wrong:
        raise InputError(f"{path} {wrong}; remove it and run {maker}")
    return content


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in an OSError of the block that names none, or a part of that file."""
    try:
        yield
    except OSError as error:
        unnamed = not error.filename or f".{path.name}.partial" in str(error.filename)
        if error.errno and unnamed:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The block creates the temporary file and closes it. It is synced to disk before the rename,
    so `path` is never half written; if the block raises, the temporary file is removed and an
    older `path` stays as it was. What killed processes have left beside `path` is removed first.
    Raises InputError where `path` is a folder, a device or a pipe, which it would replace, and
    names `path` as `naming` does.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is there and is no regular file; give another name")
    stem = f".{path.name}.partial-"
    for left in path.parent.glob(f"{escape(stem)}[0-9]*"):
        if not _lives(left.name.removeprefix(stem)):
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{stem}{os.getpid()}")
    try:
        with naming(path):
            yield partial
            _sync(partial)
            os.replace(partial, path)
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    """Return whether a process runs: one that ended and was not waited for has a state, too."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_room(path: Path, size: int) -> None:
    """Raise OSError, naming `path`, where its folder has no room for `size` more bytes.

    It is tried before hours are spent on what could not be kept.
    """
    trial = path.with_name(f".{path.name}.partial-{os.getpid()}-room")
    try:
        with open(trial, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        trial.unlink(missing_ok=True)
