"""Files of an export, written into a folder that gets its name when all of them are whole."""

import io
from pathlib import Path

import numpy as np

from eval.files import naming


def put(path: Path, content: bytes) -> None:
    """Write a file; raise OSError, naming it, where the disk does not take it."""
    with naming(path):
        path.write_bytes(content)


def put_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy as put() does: NumPy itself does not say why a disk took a part of one."""
    content = io.BytesIO()
    np.save(content, array)
    put(path, content.getvalue())


def put_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write a .npz as put() does."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    put(path, content.getvalue())
