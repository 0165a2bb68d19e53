"""The first minute on a GPU: `make gpu-check`.

What the driver shows and whether this Caffe was built for it; then, in a child process
(tools/gpu_check_loop.py), every layer of every net on the CPU and on the GPU, one training step of
alexnet, and its speed.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from tools import caffe_process, device
from tools.job import stop

FIELDS = "index,name,driver_version,compute_cap,memory.total"


def fits(capability, archs, ptx):
    """Return how a GPU runs code that was built for some architectures, None where it cannot.

    capability: as the driver says it, "8.6". archs: compute capabilities with machine code, as
    in CUDA_ARCHS (86). ptx: the one with PTX. Machine code runs on its own major version from its
    minor version on (CUDA C++ Programming Guide, "Binary Compatibility"), PTX on whatever is newer.
    """
    major, minor = (int(part) for part in capability.split("."))
    same = [arch for arch in archs if arch // 10 == major and arch % 10 <= minor]
    if same:
        return f"machine code for {max(same) / 10:.1f}"
    if major * 10 + minor >= ptx:
        return f"PTX of {ptx / 10:.1f}, compiled by the driver on the first run (minutes)"
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--device", default="auto")
    args = p.parse_args()
    if not device.gpus():
        stop(
            "no GPU is visible here: nvidia-smi shows none (a container needs --gpus all, and the "
            "machine NVIDIA's driver)"
        )
    gpus, _ = device.choose_all(args.device)
    if not gpus:
        stop("there is a GPU, but this Caffe was built for the CPU, or DEVICE=cpu was asked for")
    build = device.build()
    listing = subprocess.run(
        ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
    )
    for line in listing.stdout.splitlines():
        number, name, driver, capability, memory = line.split(", ")
        if int(number) not in gpus:
            continue
        how = fits(capability, build["archs"], build["ptx"])
        if how is None:
            stop(
                f"GPU {number}, {name}, has compute capability {capability}; this Caffe was built "
                f"for {build['archs']}: build it with CUDA_ARCHS={capability.replace('.', '')}"
            )
        print(f"GPU {number}: {name}, {memory}, driver {driver}, capability {capability}: {how}")
    print(f"Caffe: CUDA {build['cuda']}, cuDNN {build['cudnn']}, NCCL {build['nccl']}", flush=True)
    log = Path(tempfile.gettempdir()) / "gpu-check.log"
    log.unlink(missing_ok=True)
    for gpu in gpus:
        caffe_process.run("tools.gpu_check_loop", [str(gpu)], device.threads({"threads": 0}), log)


if __name__ == "__main__":
    main()
