"""Features of classes, for tests of the methods that learn from them."""

import numpy as np


def clustered(rows, classes=5, size=24, seed=0):
    """Features around a centre for each class, with axes of unequal spread, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=rows).astype(np.int32)
    centres = np.random.default_rng(99).standard_normal((classes, size)) * 2
    noise = random.standard_normal((rows, size)) * np.linspace(2, 0.2, size)
    return (centres[labels] + noise + 3).astype(np.float32), labels
