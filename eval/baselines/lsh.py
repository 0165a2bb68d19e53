"""LSH for angles: signs of random projections.

Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002, section 3:
h_r(u) = 1 where r . u >= 0, r with independent Gaussian entries. Features are centred first, as
the comparisons of ITQ's and KSH's papers do: those of a ReLU all lie in one orthant.
"""

import numpy as np

from eval.baselines.training import Encode, Training


def learn(training: Training, bits: int, random: np.random.Generator) -> tuple[Encode, dict]:
    """Draw hyperplanes through the mean of the features; there is nothing to record."""
    normals = random.standard_normal((len(training.mean), bits))
    return lambda features: (features - training.mean) @ normals >= 0, {}
