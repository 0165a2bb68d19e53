"""Which device and how many threads Caffe works with."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from tools.job import REPO, stop


def build():
    """Return build.json of the Caffe installation: commit, device (CPU or CUDA), compiler, ..."""
    path = Path(os.environ.get("CAFFE_PREFIX", REPO / ".caffe")) / "build.json"
    if not path.exists():
        stop(f"Caffe is not installed: {path} is missing; run 'make caffe'")
    return json.loads(path.read_text())


def gpus():
    """Return one line for each GPU that the driver shows, none where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]


def choose(device):
    """Return the GPU's number, or None for the CPU, and a sentence that says which and why.

    device is DEVICE: auto, cpu or gpu:N.
    """
    if device == "cpu":
        return None, "CPU (DEVICE=cpu)"
    if device == "auto":
        if build()["device"] != "CUDA":
            return None, "CPU (this Caffe was built without CUDA)"
        if not gpus():
            return None, "CPU (no GPU is visible: DEVICE=auto falls back)"
        return 0, gpus()[0]
    kind, _, index = device.partition(":")
    if kind != "gpu" or not (index or "0").isdecimal():
        stop(f"DEVICE={device} is not known: auto, cpu or gpu:N")
    if build()["device"] != "CUDA":
        stop(f"DEVICE={device}: this Caffe was built for the CPU (nvcc 11 makes it one for GPUs)")
    present = gpus()
    if int(index or 0) >= len(present):
        stop(f"DEVICE={device}: the driver shows {len(present)} GPU(s)")
    return int(index or 0), present[int(index or 0)]


def threads(spec):
    """Return a net's number of OpenBLAS threads, from nets.toml; 0 there means all cores."""
    cores = len(os.sched_getaffinity(0))
    return min(spec["threads"], cores) if spec["threads"] else cores


def activate(gpu):
    """Put this process's Caffe on a GPU, or on the CPU where gpu is None."""
    import caffe

    if gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()
