"""A full disk is said before HDF5 or Caffe meets it, and leaves nothing behind."""

import os
import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, of 3 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leave):
    """Leave so many bytes free on a disk."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with open(folder / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - leave))


def test_training_and_extraction_on_a_full_disk(trained, small_disk, options, command, folder_of):
    full = trained | {"--runs": small_disk, "--run": "full"}
    done = command("tools.train", *options(full))
    assert done.returncode == 1
    assert "a snapshot needs" in done.stderr and "MB are free; free some space" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("error: ") == 1
    assert not list((small_disk / "full").rglob("*.caffemodel"))

    run = small_disk / "run"
    run.mkdir()
    for name in ("deploy.prototxt", "train_val.prototxt", "solver.prototxt", "run.json"):
        (run / name).write_bytes((folder_of(trained) / name).read_bytes())
    (run / "model.caffemodel").symlink_to(folder_of(trained) / "model.caffemodel")
    fill(small_disk, 50_000)
    done = command("tools.codes", *options(trained | {"--runs": small_disk}))
    assert done.returncode == 1
    assert f"error: {run}/codes.h5: No space left on device; free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / "codes.h5").exists() and not list(run.glob(".*"))
