"""Every layer of every net on the CPU and on a GPU, and training: a child of gpu_check.py."""

import sys
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np

from tools.run import device
from tools.run.failure import Failure
from tools.run.nets import net_of
from tools.setup.gpu_facts import capability, fits
from tools.setup.gpu_layers import TOLERANCE, compare, data_layers, single_layers
from tools.setup.gpu_training import train_steps

STEPS = 50  # timed training steps, behind as many that warm up


def check(*, gpu: int) -> None:
    """Print how far a GPU is from the CPU; raise Failure where that is too far.

    What differs is listed on stderr, which is the child's log.
    """
    device.activate(gpu)  # where that fails, it fails before all else
    (major, minor), build = capability(gpu), device.build()
    how = fits(major, minor, build["archs"], build["ptx"])
    if how is None:
        raise Failure(
            f"GPU {gpu} has compute capability {major}.{minor}, and this Caffe was built for "
            f"{build['archs']}: build it with CUDA_ARCHS={major}{minor}"
        )
    print(f"GPU {gpu}: compute capability {major}.{minor}, {how}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        wrong = compare(gpu, chain(single_layers(), data_layers(Path(folder))))
    speed, before, after = train_steps(net_of("alexnet"), gpu, STEPS)
    print(f"alexnet, training: {speed:.0f} images a second; loss {before:.3f}, then {after:.3f}")
    if not (np.isfinite(after) and after < before):
        wrong.append(f"alexnet does not learn one batch: loss {before:.3f}, then {after:.3f}")
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        raise Failure(
            f"GPU {gpu} and the CPU differ in {len(wrong)} results; the first is {wrong[0]}"
        )
    print(f"GPU {gpu} agrees with the CPU within {TOLERANCE} in every layer")
