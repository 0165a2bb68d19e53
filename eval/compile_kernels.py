"""python -m eval.compile_kernels: compile the evaluator's kernels, so that no evaluation waits.

Part of set-up. Earlier machine code is removed first: Numba does not see that a function which
another module calls has changed.
"""

from pathlib import Path

import numpy as np

from eval.metrics import evaluate_queries

FOLDER = Path(__file__).parent / "__pycache__"


def main() -> None:
    """Compile every kernel by evaluating four queries, with one label and with several."""
    for pattern in ("*.nbi", "*.nbc"):
        for path in FOLDER.glob(pattern):
            path.unlink()
    codes, labels = np.arange(4, dtype=np.uint8)[:, None], np.arange(4, dtype=np.int32)
    for each in (labels, np.eye(4, dtype=np.uint8)):
        evaluate_queries(codes, each, codes, each, bits=8, k=2)


if __name__ == "__main__":
    main()
