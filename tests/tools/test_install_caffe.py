"""tools/install_caffe.sh: which sources it refuses, and that a finished build is left alone."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / "tools" / "install_caffe.sh"


def install(prefix, tmp_path, **variables):
    """Run the script for a prefix of its own, with a Python whose site-packages it may write to."""
    python = tmp_path / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True
        )
        site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
        import numpy

        (site / "numpy.pth").write_text(str(Path(numpy.__file__).parent.parent))
    return subprocess.run(
        ["bash", str(SCRIPT)],
        env={**os.environ, "CAFFE_PREFIX": str(prefix), "PYTHON": str(python), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_tarball_of_something_else_is_refused(tmp_path):
    tarball = tmp_path / "caffe.tar.gz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(SCRIPT, "CMakeLists.txt")
    done = install(tmp_path / "caffe", tmp_path, CAFFE_SRC=str(tarball))
    assert done.returncode == 1
    assert f"{tarball} is not the source of commit 99bd997" in done.stderr
    assert not (tmp_path / "caffe" / "src").exists()


def test_a_checkout_of_another_commit_is_refused(tmp_path):
    checkout = tmp_path / "checkout"
    git = ["git", "-C", str(checkout), "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run(["git", "init", "--quiet", str(checkout)], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    done = install(tmp_path / "caffe", tmp_path, CAFFE_SRC=str(checkout))
    assert done.returncode == 1
    assert "is not at commit 99bd997" in done.stderr


def test_a_folder_that_is_no_source_is_refused(tmp_path):
    done = install(tmp_path / "caffe", tmp_path, CAFFE_SRC=str(tmp_path))
    assert done.returncode == 1
    assert "is none of: the tarball, a Git checkout, Debian's tree" in done.stderr


def test_without_a_python_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        ["bash", str(SCRIPT)],
        env={**os.environ, "CAFFE_PREFIX": str(tmp_path / "caffe"), "PYTHON": "/nowhere/python"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "run 'make venv' first" in done.stderr


@pytest.fixture
def source():
    """The source that Caffe was built from on this machine, where its build tree is still there."""
    folder = Path(os.environ.get("CAFFE_PREFIX", REPO / ".caffe")) / "src"
    if not folder.exists():
        pytest.skip("Caffe's build tree was removed")
    return folder


def test_patches_are_in_the_source_that_was_built(source):
    io = (source / "src/caffe/util/io.cpp").read_text()
    assert "cv::IMREAD_COLOR" in io
    assert "CV_LOAD_IMAGE" not in io
    assert "SetTotalBytesLimit(kProtoReadBytesLimit);" in io
