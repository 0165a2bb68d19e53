"""The Caffe installer: which sources it refuses, and that a finished build is left alone."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tools.run import device

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[3]
SCRIPT = REPO / "tools/setup/install_caffe.sh"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A Python whose site-packages the script may write to."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    import numpy

    (site / "numpy.pth").write_text(str(Path(numpy.__file__).parent.parent))
    return folder / "bin" / "python"


@pytest.fixture
def install(python):
    """Run the script for a prefix of its own."""

    def run(prefix, **variables):
        wishes = ("CUDA_ARCHS", "USE_NCCL", "USE_CUDNN", "USE_DNNL")  # of the image, maybe
        inherited = {name: value for name, value in os.environ.items() if name not in wishes}
        return subprocess.run(
            ["bash", str(SCRIPT)],
            env={**inherited, "CAFFE_PREFIX": str(prefix), "PYTHON": str(python), **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def compilers():
    """What is installed before any source is looked at; the image has none of it."""
    if not shutil.which("cmake") and os.geteuid() != 0:
        pytest.skip("there is no compiler here, and no root who could install one")


@pytest.mark.usefixtures("compilers")
def test_a_tarball_of_something_else_is_refused(install, tmp_path):
    tarball = tmp_path / "caffe.tar.gz"
    with tarfile.open(tarball, "w:gz") as archive:
        archive.add(SCRIPT, "CMakeLists.txt")
    done = install(tmp_path / "caffe", CAFFE_SRC=str(tarball))
    assert done.returncode == 1
    assert f"{tarball} is not the source of commit 99bd997" in done.stderr
    assert not (tmp_path / "caffe" / "src").exists()


@pytest.mark.usefixtures("compilers")
def test_a_checkout_of_another_commit_is_refused(install, tmp_path):
    checkout = tmp_path / "checkout"
    git = ["git", "-C", str(checkout), "-c", "user.name=x", "-c", "user.email=x"]
    subprocess.run(["git", "init", "--quiet", str(checkout)], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    done = install(tmp_path / "caffe", CAFFE_SRC=str(checkout))
    assert done.returncode == 1
    assert "is not at commit 99bd997" in done.stderr


@pytest.mark.usefixtures("compilers")
def test_a_folder_that_is_no_source_is_refused(install, tmp_path):
    done = install(tmp_path / "caffe", CAFFE_SRC=str(tmp_path))
    assert done.returncode == 1
    assert "is none of: the tarball, a Git checkout, Debian's tree" in done.stderr


@pytest.mark.usefixtures("compilers")
def test_a_tree_that_only_says_it_is_debian_s_is_refused_and_the_venv_stays(
    install, python, tmp_path
):
    """A build that fails leaves the Python of the venv with the Caffe that it had."""
    there = next((python.parent.parent / "lib").glob("python*/site-packages")) / "caffe.pth"
    there.write_text("/the/one/before")
    tree = tmp_path / "tree"
    (tree / "debian").mkdir(parents=True)
    version = re.search(r"debian_version='(.*)'", SCRIPT.read_text())[1]
    (tree / "debian/changelog").write_text(f"caffe ({version}) bullseye; urgency=medium\n")
    (tree / "CMakeLists.txt").write_text("execute_process(COMMAND touch gone)\n")
    done = install(tmp_path / "caffe", CAFFE_SRC=str(tree))
    assert done.returncode == 1
    assert f"CAFFE_SRC={tree} is not the unchanged tree of Debian's caffe" in done.stderr
    assert not (tmp_path / "caffe" / "src").exists()
    assert there.read_text() == "/the/one/before"
    there.unlink()


def test_without_a_python_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        ["bash", str(SCRIPT)],
        env={**os.environ, "CAFFE_PREFIX": str(tmp_path / "caffe"), "PYTHON": "/nowhere/python"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "run 'make venv' first" in done.stderr


def test_a_cuda_build_that_cannot_be_made_is_refused(install, tmp_path):
    tools = tmp_path / "bin"  # a machine without nvcc
    tools.mkdir()
    for name in ("bash", "cat", "cut", "dirname", "env", "find", "flock", "grep", "mkdir", "sed"):
        (tools / name).symlink_to(shutil.which(name))
    for name in ("sha256sum", "sort", "tr", "xargs"):
        (tools / name).symlink_to(shutil.which(name))
    done = install(tmp_path / "caffe", USE_NCCL="1", PATH=str(tools))
    assert done.returncode == 1
    assert "USE_NCCL=1 asks for a CUDA build" in done.stderr
    assert not (tmp_path / "caffe" / "src").exists()


@pytest.mark.parametrize("archs", ["80 sm_90", "8", "80 -gencode"])
def test_architectures_that_are_none_are_refused(install, tmp_path, archs):
    done = install(tmp_path / "caffe", CUDA_ARCHS=archs)
    assert done.returncode == 1
    assert "is not a compute capability" in done.stderr
    assert not (tmp_path / "caffe").exists()


def test_an_engine_that_is_neither_wanted_nor_not_is_refused(install, tmp_path):
    done = install(tmp_path / "caffe", USE_DNNL="yes")
    assert done.returncode == 1
    assert done.stderr == "[caffe] USE_DNNL=yes is not known: it is 0, or left out\n"


@pytest.fixture
def source():
    """The source that Caffe was built from on this machine, where its build tree is still there."""
    folder = device.prefix() / "src"
    if not folder.exists():
        pytest.skip("Caffe's build tree was removed")
    return folder


def test_patches_are_in_the_source_that_was_built(source):
    io = (source / "src/caffe/util/io.cpp").read_text()
    assert "cv::IMREAD_COLOR" in io
    assert "CV_LOAD_IMAGE" not in io
    assert "SetTotalBytesLimit(kProtoReadBytesLimit);" in io
    assert "\nimport skimage" not in (source / "python/caffe/io.py").read_text()


def test_caffe_comes_without_what_its_picture_functions_need_and_these_fetch_it():
    """scikit-image and scipy are half of the time of `import caffe`, in each of its processes."""
    script = (
        "import sys, caffe, numpy\n"
        "assert not {'skimage', 'scipy'} & set(sys.modules)\n"
        "for channels in (3, 2): print(caffe.io.resize_image(numpy.eye(4)[..., None].repeat("
        "channels, 2), (8, 8)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "(8, 8, 3)\n(8, 8, 2)\n", done.stderr


@pytest.mark.parametrize("library", ["nccl", "cudnn"])
def test_patches_of_a_cuda_build_fit_the_source(source, tmp_path, library):
    tree = tmp_path / "src"
    shutil.copytree(source, tree, ignore=shutil.ignore_patterns(".git"))
    (patch,) = (REPO / "tools/setup/patches" / library).glob("*.patch")
    steps = [(patch, ["--reverse"] if device.build().get(library) else [])]
    if device.build().get("engine") == "dnnl":  # which a CUDA build is without
        engine = sorted((REPO / "tools/setup/patches/dnnl").glob("*.patch"), reverse=True)
        steps = [(each, ["--reverse"]) for each in engine] + steps
    for each, options in steps:
        command = ["patch", "--batch", "--strip=1", *options, f"--directory={tree}"]
        with each.open() as text:
            subprocess.run(command, stdin=text, check=True)
    for name in tree.rglob("cudnn_*conv_layer.cpp") if library == "cudnn" else []:
        assert "_WORKSPACE_LIMIT" not in name.read_text()  # what cuDNN 8 does not have


def test_the_build_s_own_make_expands_nothing_that_a_person_gave(python, tmp_path):
    """A make hands its command's variables down, and one below it would run what they hold."""
    prefix = tmp_path / "caffe"
    (prefix / "src").mkdir(parents=True)
    (prefix / "build/test").mkdir(parents=True)
    (prefix / "build/Makefile").write_text("test.testbin:\n\t@true\n")
    (prefix / "build/test/test.testbin").write_text("#!/bin/sh\necho tested\n")
    (prefix / "build/test/test.testbin").chmod(0o755)
    (prefix / "build.json").write_text('{"device": "CPU"}')
    rule = f"override IMAGES := $(value IMAGES)\nall:\n\t@{SCRIPT} test\n"
    (tmp_path / "Makefile").write_text(rule)
    done = subprocess.run(
        ["make", "-C", tmp_path, f"IMAGES=$(shell touch {tmp_path}/gone)"],
        env=os.environ | {"CAFFE_PREFIX": str(prefix), "PYTHON": str(python)},
        capture_output=True,
        text=True,
    )
    assert "tested" in done.stdout, done.stderr
    assert not (tmp_path / "gone").exists()
