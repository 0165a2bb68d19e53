"""The first minute on a GPU: `make gpu-check`.

What the driver shows; then, in a child process (tools/setup/gpu_check_child.py), whether this Caffe
was built for the GPU, every layer of every net on the CPU and on it, one training step of alexnet,
and its speed.
"""

import shutil
import tempfile
from pathlib import Path

from tools.run import child, device
from tools.run.failure import Failure, carry_out
from tools.run.variables import parse
from tools.setup.gpu_facts import describe


def main() -> None:
    """Check each GPU that DEVICE names."""
    values = parse(__doc__, ("DEVICE",))
    if not device.gpus():
        raise Failure(
            "no GPU is visible here: nvidia-smi shows none (a container needs --gpus all, and the "
            "machine NVIDIA's driver)"
        )
    gpus, _ = device.choose_all(values.device)
    if not gpus:
        raise Failure(
            "there is a GPU, but this Caffe was built for the CPU, or DEVICE=cpu was asked for"
        )
    build = device.build()
    print("\n".join(describe(gpus, device.gpus())))
    print(f"Caffe: CUDA {build['cuda']}, cuDNN {build['cudnn']}, NCCL {build['nccl']}", flush=True)
    folder = tempfile.mkdtemp(prefix="gpu-check-")  # kept: a failure names the log in it
    for gpu in gpus:
        log = Path(folder) / f"gpu-{gpu}.log"
        child.call("tools.setup.gpu_check_child.check", threads=device.threads(), log=log, gpu=gpu)
    shutil.rmtree(folder)


if __name__ == "__main__":
    carry_out(main)
