"""python -m eval.baselines.compile_kernels: compile the methods' kernels, so that none waits.

Part of set-up, as eval/compile_kernels.py is: what a method's file says of the time that it took
to learn has no compiling in it.
"""

from pathlib import Path

import numpy as np

from eval.baselines import bre, mlh

FOLDER = Path(__file__).parent / "__pycache__"


def main() -> None:
    """Compile every kernel by its use on a few rows."""
    for pattern in ("*.nbi", "*.nbc"):
        for path in FOLDER.glob(pattern):
            path.unlink()
    random = np.random.default_rng(0)
    rows = random.standard_normal((8, 4))
    pairs = bre.draw_pairs(8, 2, random)
    bre.descend(
        rows @ rows.T,
        random.integers(8, size=(2, 3)),
        random.standard_normal((2, 3)),
        pairs,
        np.ones(len(pairs)),
        random,
    )
    of_classes = mlh.by_class(rows, np.arange(8) % 2)
    pairs = mlh.draw(of_classes, mlh.BATCH, random)
    weights = random.standard_normal((4, 8))
    mlh.descend_epoch(
        of_classes.rows,
        *pairs,
        mlh.pair_losses(8, 1),
        weights,
        np.zeros_like(weights),
        mlh.RATE,
    )


if __name__ == "__main__":
    main()
