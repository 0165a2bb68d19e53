"""The image's files agree with the installer, and what can be asked of the image from inside it."""

import re
import shutil
import subprocess
from pathlib import Path

import caffe
import pytest

from tools.run import child, device
from tools.run.failure import Failure

REPO = Path(__file__).resolve().parents[3]
PREFIX = device.prefix()
cuda = pytest.mark.skipif(device.build()["device"] == "CPU", reason="Caffe was built for the CPU")


def test_the_dockerfile_s_architectures_are_the_installer_s():
    (image,) = re.findall(r'^ARG CUDA_ARCHS="(.*)"$', (REPO / "Dockerfile").read_text(), re.M)
    (installer,) = re.findall(
        r"CUDA_ARCHS:-(\d.*?)}", (REPO / "tools/setup/install_caffe.sh").read_text()
    )
    assert image == installer


def test_what_set_up_and_runs_leave_stays_out_of_the_image():
    ignored = (REPO / ".dockerignore").read_text().split()
    assert {".git", ".caffe", ".venv", "data", "runs", "weights"} <= set(ignored)


@pytest.mark.parametrize(
    ("word", "tools", "says"),
    [("build", (), "neither Docker nor Podman"), ("publish", ("buildah",), "say build, shell")],
)
def test_image_sh_says_what_it_needs(tmp_path, word, tools, says):
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name in tools:
        (tmp_path / name).symlink_to(shutil.which("true"))
    done = subprocess.run(
        [REPO / "tools/setup/image.sh", word],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@cuda
def test_libcaffe_finds_the_cuda_libraries():
    found = subprocess.run(["ldd", PREFIX / "lib/libcaffe.so"], capture_output=True, text=True)
    assert "not found" not in found.stdout
    for library in ("libcudart.so.11", "libcublas.so.11", "libcurand.so.10"):
        assert library in found.stdout
    for wish, library in (("nccl", "libnccl.so.2"), ("cudnn", "libcudnn.so.8")):
        assert (library in found.stdout) == device.build()[wish]


@cuda
def test_nccl_s_id_is_whole():
    """It has zeros among its bytes, and pycaffe's own code ended it at the first one."""
    if not device.build()["nccl"]:
        pytest.skip("built without NCCL")
    assert caffe.has_nccl()
    assert len(caffe.NCCL.new_uid()) == 128


@cuda
def test_without_a_driver_caffe_s_death_becomes_a_sentence(tmp_path):
    if device.gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(Failure, match=r"the NVIDIA driver is too old for CUDA 11.*") as died:
        child.call("tools.setup.gpu_check_child.check", threads=1, log=tmp_path / "log", gpu=0)
    assert "\n" not in str(died.value)
