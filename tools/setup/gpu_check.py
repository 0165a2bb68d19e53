"""The first minute on a GPU: `make gpu-check`.

What the driver shows; then, in a child process (tools/setup/gpu_check_child.py), whether this Caffe was
built for the GPU, every layer of every net on the CPU and on it, one training step of alexnet, and
its speed.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.run import child as caffe_process
from tools.run import device
from tools.run.job import stop

FIELDS = "uuid,name,driver_version,memory.total"  # old drivers have these too


def describe(gpus, lines):
    """Return a sentence for each of some GPUs.

    gpus: their numbers. lines: device.gpus().
    """
    listing = subprocess.run(
        ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
    )
    facts = [line.split(", ") for line in listing.stdout.splitlines()]
    known = {row[0]: row[1:] for row in facts if len(row) == 4}
    sentences = []
    for number in gpus:
        uuid = lines[number].partition("UUID: ")[2].rstrip(")")
        if uuid not in known:
            sentences.append(f"GPU {number}: {lines[number]}")  # a part of one (MIG)
            continue
        name, driver, memory = known[uuid]
        sentences.append(f"GPU {number}: {name}, {memory}, driver {driver}")
    return sentences


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
    print("\n".join(describe(gpus, device.gpus())))
    print(f"Caffe: CUDA {build['cuda']}, cuDNN {build['cudnn']}, NCCL {build['nccl']}", flush=True)
    folder = tempfile.mkdtemp(prefix="gpu-check-")  # kept: a failure names the log in it
    for gpu in gpus:
        log = Path(folder) / f"gpu-{gpu}.log"
        caffe_process.run(
            "tools.setup.gpu_check_child", [str(gpu)], device.threads({"threads": 0}), log
        )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
