"""The image's files agree with the installer, and what can be asked of the image from inside it."""

import os
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


@pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed")
def test_an_image_says_by_its_digest_what_it_is_built_on(tmp_path):
    """On an image without anything in it; and by that digest, an image is built on it again."""
    storage = f'[storage]\ndriver = "vfs"\nrunroot = "{tmp_path}/r"\ngraphroot = "{tmp_path}/g"\n'
    (tmp_path / "storage.conf").write_text(storage)
    (tmp_path / "bin").mkdir()
    for name in ("docker", "podman"):
        (tmp_path / "bin" / name).symlink_to(shutil.which("false"))
    environment = os.environ | {
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    }

    def run(*command, **more):
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run("buildah", "commit", "--rm", run("buildah", "from", "scratch"), "debian:bookworm-slim")
    image = (REPO / "Dockerfile").read_text()
    first, last = (
        re.search(rf"^(?:{part}).*\n", image, re.M)[0] for part in ("ARG IMAGE", "FROM \\$")
    )
    labels = image[image.index("ARG IMAGE_BASE\nARG BASE") : image.index("HEALTHCHECK")]
    script = tmp_path / "tools" / "setup" / "image.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(REPO / "tools/setup/image.sh", script)
    (tmp_path / "Dockerfile").write_text(first + last + labels)
    digests = []
    for base in ("debian:bookworm-slim", "debian@{digest}"):
        base = base.format(digest=digests and digests[0])
        said = run(script, "build", IMAGE="try", IMAGE_BASE=base)
        digests.append(re.search(r"digest (sha256:[0-9a-f]{64})$", said, re.M)[1])
        label = '{{index .OCIv1.Config.Labels "org.opencontainers.image.base.digest"}}'
        assert run("buildah", "inspect", "--type", "image", "--format", label, "try") == digests[0]
    assert digests[0] == digests[1]


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
