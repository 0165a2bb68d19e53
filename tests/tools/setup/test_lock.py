"""The locks have the pins of the files beside them, and a hash for each."""

import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_of(name):
    lines = (REPO / name).read_text().splitlines()
    pins = [line.partition("#")[0].strip() for line in lines]
    return {normal(name): version for name, version in (pin.split("==") for pin in pins if pin)}


@pytest.mark.parametrize(
    ("pins", "installer"),
    [
        ("requirements.txt", "make_venv.sh"),
        ("requirements-cuda.txt", "install_caffe.sh"),
    ],
)
def test_a_lock_has_the_pins_and_their_hashes(pins, installer):
    entries = re.findall(
        r"^([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$",
        (REPO / pins.replace(".txt", ".lock")).read_text(),
        re.MULTILINE,
    )
    assert {name: version for name, version, _ in entries} == pins_of(pins)
    assert "--require-hashes" in (REPO / "tools/setup" / installer).read_text()


@pytest.mark.parametrize(
    ("pins", "given", "code"),
    [
        ("nvidia-nccl-cu11==2.21.5", ["nvidia-nccl-cu11==2.21.5"], 0),
        (
            "nvidia-cudnn-cu11==8.9.6.50\nnvidia-cuda-nvrtc-cu11==11.8.89",
            ["nvidia-cudnn-cu11==8.9.6.50", "nvidia-cuda-nvrtc-cu11==11.8.89"],
            0,
        ),
        ("nvidia-nccl-cu11==2.21", [], 1),
    ],
)
def test_the_installer_gives_pip_what_was_asked_for_with_its_hashes(pins, given, code):
    script = (REPO / "tools/setup/install_caffe.sh").read_text()
    locked = re.search(r"^locked\(\) \{$.*?^\}$", script, re.MULTILINE | re.DOTALL)[0]
    head = f'repo={REPO}; die() {{ echo "$1" >&2; exit 1; }}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{head}\n{locked}\nlocked '{pins}'"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert re.findall(r"^(\S+==\S+) \\$", done.stdout, re.MULTILINE) == given
    assert done.stdout.count("--hash=sha256:") == len(given)
    assert code == 0 or "requirements-cuda.lock has no nvidia-nccl-cu11==2.21:" in done.stderr
