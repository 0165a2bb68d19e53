"""Which device, which engine and how many threads Caffe works with."""

import os
import shutil
import subprocess
from pathlib import Path

from eval.files import read_json
from tools.run.failure import Failure
from tools.run.job import REPO
from tools.run.nets import Net


def prefix() -> Path:
    """Return the folder that Caffe is installed in."""
    return Path(os.environ.get("CAFFE_PREFIX") or REPO / ".caffe")


def build() -> dict:
    """Return build.json of the Caffe installation: commit, device (CPU or CUDA), compiler, ..."""
    path = prefix() / "build.json"
    if not path.exists():
        raise Failure(f"Caffe is not installed: {path} is missing; run 'make caffe'")
    return read_json(path, ("commit", "device"), "'make caffe'")


def gpus() -> list[str]:
    """Return nvidia-smi's line of each GPU that CUDA shows, in CUDA's order; [] without a driver.

    CUDA_VISIBLE_DEVICES has numbers in nvidia-smi's order (activate() makes it CUDA's own) or
    UUIDs; CUDA stops at the first one that is not there.
    """
    if not shutil.which("nvidia-smi"):
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    lines = [line.strip() for line in listing.stdout.splitlines() if "UUID: " in line]
    whole = [line for line in lines if line.startswith("GPU ")]
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return whole
    visible = []
    for name in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        name = name.strip()
        if name.isdecimal():
            found = whole[int(name) :][:1]
        else:
            found = [line for line in lines if name and f"UUID: {name}" in line]
        if not found:
            break
        visible += found
    return visible


def numbers(device: str) -> list[int]:
    """Return the numbers that DEVICE=gpu:N or gpu:N,M,... names, [] for auto and cpu.

    Raise Failure where DEVICE is none of these.
    """
    if device in ("auto", "cpu"):
        return []
    kind, _, listed = device.partition(":")
    named = (listed or "0").split(",")
    if kind != "gpu" or not all(number.isdecimal() for number in named):
        raise Failure(f"DEVICE={device} is not known: auto, cpu, gpu:N or gpu:N,M,...")
    if len({int(number) for number in named}) < len(named):
        raise Failure(f"DEVICE={device} names a GPU twice")
    return [int(number) for number in named]


def choose_all(device: str) -> tuple[list[int], str]:
    """Return the GPUs' numbers, [] for the CPU, and a sentence that says which and why.

    device is DEVICE: auto, cpu, gpu:N or gpu:N,M,...
    """
    named = numbers(device)
    if device == "cpu":
        return [], "CPU (DEVICE=cpu)"
    if device == "auto":
        if build()["device"] != "CUDA":
            return [], "CPU (this Caffe was built without CUDA)"
        if not gpus():
            return [], "CPU (no GPU is visible: DEVICE=auto falls back)"
        return [0], gpus()[0]
    if build()["device"] != "CUDA":
        raise Failure(
            f"DEVICE={device}: this Caffe was built for the CPU (nvcc 11 makes it one for GPUs)"
        )
    present = gpus()
    if max(named) >= len(present):
        raise Failure(f"DEVICE={device}: the driver shows {len(present)} GPU(s)")
    return named, "; ".join(present[number] for number in named)


def choose(device: str) -> tuple[int | None, str]:
    """Return choose_all's first GPU, None for the CPU, and its sentence, for one process's work."""
    chosen, sentence = choose_all(device)
    return (chosen[0] if chosen else None), sentence


def solvers(device: str, net: Net) -> int:
    """Return how many batches of a net make one update, on the devices that DEVICE names.

    The net's own `solvers` (nets.toml) on the CPU and on one GPU; on several GPUs, each of which is
    a solver, the least multiple of their number that is not below it. Decides the result.
    """
    gpus = len(numbers(device)) or 1
    return gpus * -(-net.solvers // gpus)


def statistics(device: str) -> str:
    """Return whose statistics a trained BatchNorm layer keeps, "" for those of every batch.

    On several GPUs NCCL averages gradients alone: the model has the first one's statistics.
    """
    gpus = len(numbers(device))
    return f"those of the first of {gpus} GPUs" if gpus > 1 else ""


FULL = "the GPU's memory is full: take a smaller BATCH=, or end what else runs there (nvidia-smi)"
ADVICE = {  # what Caffe, CUDA, its libraries or NCCL say, and what to do
    "driver version is insufficient": (
        "the NVIDIA driver is too old for CUDA 11 (450.80), or not visible here: see nvidia-smi"
    ),
    "unsupported toolchain": (
        "the NVIDIA driver is too old to compile this Caffe's PTX for this GPU: update it, or "
        "build Caffe with the GPU's compute capability in CUDA_ARCHS="
    ),
    "out of memory": FULL,
    "_STATUS_ALLOC_FAILED": FULL,
    "_STATUS_NOT_INITIALIZED": (
        "cuBLAS or cuDNN could not start: the GPU's memory may be full, or its driver too old "
        "(nvidia-smi)"
    ),
    "invalid device ordinal": "there is no GPU of that number: see nvidia-smi",
    "unhandled system error": (
        "NCCL could not start: a container needs --shm-size=1g; NCCL_DEBUG=INFO says more"
    ),
    "unhandled cuda error": "NCCL failed: NCCL_DEBUG=INFO says more, NCCL_P2P_DISABLE=1 may help",
    "no kernel image is available": (
        "this Caffe has no code for this GPU: build it with its compute capability in CUDA_ARCHS="
    ),
    "no CUDA-capable device": "no GPU is visible here: see nvidia-smi",
}


def advice(said: str) -> str:
    """Return what to do about Caffe's last words, "" where none is known."""
    return next((todo for part, todo in ADVICE.items() if part in said), "")


def engine() -> str:
    """Return what computes a CPU's layers: "dnnl" (oneDNN), or "caffe" (BVLC's own code).

    CAFFE_ENGINE, which Caffe itself reads too; by default oneDNN where Caffe was built with it.
    Raise Failure where it is neither, or was not built.
    """
    built = build().get("engine", "caffe")
    asked = os.environ.get("CAFFE_ENGINE") or built
    if asked not in ("dnnl", "caffe"):
        raise Failure(f"CAFFE_ENGINE={asked} is not known: dnnl or caffe")
    if asked == "dnnl" != built:
        raise Failure("CAFFE_ENGINE=dnnl: this Caffe was built without oneDNN")
    return asked


def threads() -> int:
    """Return how many threads compute: as many as cores that this process may use.

    Its affinity says which; the CPU quotas of its cgroup and of those around it, of either version,
    say for how much of the time.
    """
    return max(1, min(len(os.sched_getaffinity(0)), *map(int, _quotas(Path("/")))))


def _quotas(root: Path) -> list[float]:
    """Return the cores' worth of time of each cgroup with a quota; root: where /proc and /sys are.

    The first of them, more than any machine has, stands for none.
    """
    found = [1e9]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            if folder == top.parent:
                break
            try:
                if controllers:
                    quota = (folder / "cpu.cfs_quota_us").read_text()
                    period = (folder / "cpu.cfs_period_us").read_text()
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
            except OSError:
                continue  # a container sees no groups but its own
            if quota.strip() not in ("max", "-1"):
                found.append(int(quota) / int(period))
    return found


def activate(gpu: int | None) -> None:
    """Put this process's Caffe on a GPU, or on the CPU where gpu is None.

    Before CUDA starts its order of GPUs is set to nvidia-smi's, so that numbers mean the same; and
    no GPU is shown to a process on the CPU, where Caffe would take some memory of the first one.
    """
    import caffe

    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if gpu is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        caffe.set_mode_cpu()
    else:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()
