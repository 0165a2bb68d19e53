"""python -m eval.bench.scale: measure a codes file of Yahoo-1M's size, from disk to metrics.

112,363 queries against 1,011,723 codes of 128 bits in 116 classes, with activations,
probabilities and keys, as an extraction writes them (1.3 GB in the folder for temporary files).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from eval.bench.common import clustered_codes, clustered_pieces, in_child
from eval.codes import create_codes

ROWS = {"database": 1_011_723, "query": 112_363}
SEEDS = {"database": 1, "query": 2}
BITS, CLASSES = 128, 116


def main() -> None:
    """Write the codes file, measure it, and print time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.h5"
        start = time.perf_counter()
        in_child(write, path)
        size = path.stat().st_size / 1e9
        print(f"codes file of {size:.2f} GB written in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        command = subprocess.Popen([sys.executable, "-m", "eval", path])
        _, status, usage = os.wait4(command.pid, 0)
        seconds = time.perf_counter() - start
    print(
        f"python -m eval took {seconds:.1f} s on {len(os.sched_getaffinity(0))} cores, "
        f"peak memory {usage.ru_maxrss / 1024:,.0f} MB"
    )
    sys.exit(os.waitstatus_to_exitcode(status))


def write(path: Path) -> None:
    """Write the codes file, piece by piece."""
    labels = {
        name: clustered_codes(rows, BITS, CLASSES, SEEDS[name])[1] for name, rows in ROWS.items()
    }
    with create_codes(
        path,
        bits=BITS,
        class_names=[f"class {label}" for label in range(CLASSES)],
        dataset="clustered codes of Yahoo-1M's size",
        net="none",
        net_fingerprint="none",
        row_order="as generated",
        labels=labels,
        keys={name: [f"{name}/{row:07d}" for row in range(rows)] for name, rows in ROWS.items()},
    ) as write_rows:
        for name, rows in ROWS.items():
            start = 0
            for bits, of_piece in clustered_pieces(rows, BITS, CLASSES, SEEDS[name]):
                probabilities = np.eye(CLASSES, dtype=np.float32)[of_piece]
                write_rows(name, start, bits.astype(np.float32), probabilities)
                start += len(bits)


if __name__ == "__main__":
    main()
