"""HDF5 files on a disk that fails: one error that names the file, and nothing left."""

import errno
import re
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from eval.hdf5 import create_hdf5

REPO = Path(__file__).resolve().parents[2]


@contextmanager
def largest_file(size):
    """Let writes beyond so many bytes of a file fail, as on a disk that is full or broken."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def write(file):
    file.attrs["names"] = np.array(["é"] * 500, h5py.string_dtype())
    rows = file.create_dataset("rows", (0, 50), "f4", maxshape=(None, 50), chunks=(100, 50))
    for start in range(0, 1000, 100):
        rows.resize(start + 100, axis=0)
        rows[start:] = np.full((100, 50), start)
    file["whole"] = np.arange(50_000)


@pytest.mark.parametrize("size", [0, 100, 2048, 20_000, 150_000, 400_000])
def test_a_write_that_fails_is_an_error_with_the_file_s_name(size, tmp_path):
    path = tmp_path / "codes.h5"
    path.write_bytes(b"an older one")
    with pytest.raises(OSError) as failed, largest_file(size), create_hdf5(path) as file:
        write(file)
    assert failed.value.errno == errno.EFBIG and failed.value.filename == str(path)
    assert path.read_bytes() == b"an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_long_work_ends_at_the_first_failure(tmp_path):
    with pytest.raises(OSError), largest_file(10_000), create_hdf5(tmp_path / "codes.h5") as file:
        write(file)
        file.check()
        pytest.fail("it goes on")


def test_the_file_is_what_hdf5_itself_writes(tmp_path):
    with create_hdf5(tmp_path / "ours.h5") as file:
        write(file)
        file.check()
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        write(file)
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("ours.h5", "theirs.h5"))
    assert len(ours) == len(theirs)
    with h5py.File(tmp_path / "ours.h5") as one, h5py.File(tmp_path / "theirs.h5") as other:
        assert (one["rows"][:] == other["rows"][:]).all()
        assert one["whole"].id.get_offset() == other["whole"].id.get_offset()


def test_nothing_else_writes_hdf5():
    """By itself HDF5 ends the process where a write fails."""
    sources = [path for folder in ("eval", "tools") for path in (REPO / folder).rglob("*.py")]
    written = re.compile(r'h5py\.File\([^)]*"[wax]"')
    found = {
        path.relative_to(REPO).parts[1] for path in sources if written.search(path.read_text())
    }
    assert found <= {"faults"}  # which makes a file to be damaged
