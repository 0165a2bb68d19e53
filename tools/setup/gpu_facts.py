"""What is known of a GPU: its name and driver, its compute capability, and which builds fit it."""

import ctypes
import subprocess
from collections.abc import Sequence

from tools.run.failure import Failure

FIELDS = "uuid,name,driver_version,memory.total"  # old drivers have these too
COMPUTE_CAPABILITY = (75, 76)  # cudaDevAttrComputeCapabilityMajor, ...Minor


def describe(gpus: Sequence[int], lines: Sequence[str]) -> list[str]:
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


def capability(gpu: int) -> tuple[int, int]:
    """Return (major, minor) of a GPU's compute capability, by CUDA's own word.

    Raise Failure where CUDA does not tell it.
    """
    cudart = ctypes.CDLL("libcudart.so.11.0")
    value, found = ctypes.c_int(), []
    for attribute in COMPUTE_CAPABILITY:
        error = cudart.cudaDeviceGetAttribute(ctypes.byref(value), attribute, gpu)
        if error:
            raise Failure(
                f"CUDA does not tell GPU {gpu}'s compute capability (error {error}): nvidia-smi"
            )
        found.append(value.value)
    return tuple(found)


def fits(major: int, minor: int, archs: Sequence[int], ptx: int) -> str | None:
    """Return how a GPU runs code that was built for some architectures, None where it cannot.

    major, minor: its compute capability. archs: compute capabilities with machine code, as in
    CUDA_ARCHS (86). ptx: the one with PTX. Machine code runs on its own major version from its
    minor version on (CUDA C++ Programming Guide, "Binary Compatibility"), PTX on whatever is newer.
    """
    same = [arch for arch in archs if arch // 10 == major and arch % 10 <= minor]
    if same:
        return f"machine code for {max(same) / 10:.1f}"
    if major * 10 + minor >= ptx:
        return f"PTX of {ptx / 10:.1f}, compiled by the driver on the first run (minutes)"
    return None
