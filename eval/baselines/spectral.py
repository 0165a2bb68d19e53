"""Spectral hashing: Weiss, Torralba and Fergus, "Spectral hashing", NIPS 2008, section 3.

Along each principal axis the data are taken as uniform on [a, b]. The eigenfunctions there are
sin(pi/2 + m pi (x - a) / (b - a)), m = 1, 2, ... (eq. 6), with eigenvalues
1 - exp(-(eps^2 / 2) (m pi / (b - a))^2) (eq. 7). The K smallest over all axes give the bits. The
eigenvalue grows with m / (b - a) for any eps, so that eps need not be chosen.
"""

import numpy as np

from eval.baselines.training import Encode, Training, principal_axes, projected


def learn(training: Training, bits: int, random: np.random.Generator) -> tuple[Encode, dict]:
    """Choose eigenfunctions, whose signs are the bits; record the axis and the mode of each bit."""
    axes = principal_axes(training, min(bits, len(training.mean)))
    along = projected(training, axes)
    low, width = along.min(axis=0), np.ptp(along, axis=0)
    axis, mode = smallest_modes(width, bits)

    def encode(features: np.ndarray) -> np.ndarray:
        place = ((features - training.mean) @ axes - low)[:, axis] / width[axis]
        return np.sin(np.pi / 2 + mode * np.pi * place) >= 0

    return encode, {"axis": axis.tolist(), "mode": mode.tolist()}


def smallest_modes(width: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return axis and mode, two (bits,) int64 arrays, of the `bits` smallest eigenvalues.

    width: (d,) float64, b - a of each axis; one without width has no eigenfunction.
    """
    mode = np.arange(1, bits + 1)
    with np.errstate(divide="ignore"):
        frequency = mode / np.where(width > 1e-9 * width.max(), width, 0)[:, None]
    axis, place = np.unravel_index(
        np.argsort(frequency, axis=None, kind="stable")[:bits], frequency.shape
    )
    return axis, mode[place]
