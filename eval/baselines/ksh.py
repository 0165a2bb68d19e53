"""KSH: Liu, Wang, Ji, Jiang and Chang, "Supervised hashing with kernels", CVPR 2012.

A bit is the sign of a . k(x), k(x) the centred kernel values of x with m anchors (eq. 2). With
h_1 ... h_K the bits (1 or -1) of l labelled rows and S = 1 for rows that share a label, else -1,
sought are bits with a small |sum_k h_k h_k' - K S|^2 (eq. 9). They are learned one after another:
the t-th minimizes -h' R h with the residue R = K S - sum_(k<t) h_k h_k' (eqs. 10, 11). It starts
from the largest generalized eigenvector of (K'RK, K'K) (spectral relaxation, eq. 12), is improved
with the sign smoothed to phi(x) = 2 / (1 + exp(-x)) - 1 (eqs. 13, 14), and keeps whichever of the
two is better under the sign itself (Algorithm 1).

The paper's descent is Nesterov's; here scipy's L-BFGS minimizes the same function from the same
start. S has a low rank, that of the labels that differ, so that R is never formed.
"""

from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh

from eval.baselines.training import Affinity, Encode, Training, affinity, pieces, signs

ANCHORS, LABELLED = 300, 2000  # m and l of the authors' code
ITERATIONS = 500  # T of the authors' code
RIDGE = 1e-8  # keeps K'K definite where anchors coincide; in units of its mean eigenvalue


Smoothed = Callable[[np.ndarray], tuple[float, np.ndarray]]  # a -> its objective and gradient
Residue = Callable[[np.ndarray], np.ndarray]  # v -> R v, for a vector or for columns


def learn(training: Training, bits: int, random: np.random.Generator) -> tuple[Encode, dict]:
    """Learn KSH on anchors and labelled rows that are drawn from the features.

    Records how many there are of both, and for each bit the objective -h' R h of its spectral
    start and of the bit that was kept.
    """
    from sklearn.metrics.pairwise import euclidean_distances  # takes 2 s, of the pages too

    count = len(training.features)
    anchors = training.features[random.choice(count, min(ANCHORS, count), replace=False)]
    labelled = random.choice(count, min(LABELLED, count), replace=False)
    total = sum(
        euclidean_distances(piece, anchors, squared=True).sum(dtype=np.float64)
        for piece in pieces(training.features)
    )
    width = total / (count * len(anchors))  # the mean squared distance, as in the authors' code

    def kernel(features: np.ndarray) -> np.ndarray:
        return np.exp(euclidean_distances(features, anchors, squared=True) / (-2 * width))

    mean = sum(kernel(piece).sum(axis=0) for piece in pieces(training.features)) / count
    centred = kernel(training.features[labelled]).astype(np.float64) - mean
    coefficients, spectral, final = learn_bits(centred, training.labels[labelled], bits)
    record = {"anchors": len(anchors), "labelled": len(labelled)}
    return (
        lambda features: (kernel(features) - mean) @ coefficients > 0,
        record | {"spectral_objective": spectral, "final_objective": final},
    )


def learn_bits(
    kernel: np.ndarray, labels: np.ndarray, bits: int
) -> tuple[np.ndarray, list[float], list[float]]:
    """Return coefficients (m, bits) float64, and two lists of objectives, one number a bit.

    The lists are those of the spectral starts and of the bits kept.
    kernel: (l, m) float64, centred. labels: (l,) integers, or (l, L) of 0 and 1.
    """
    same = affinity(labels)
    chosen = np.zeros((len(labels), 0))
    gram = kernel.T @ kernel
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    coefficients, spectral, final = [], [], []
    for _ in range(bits):
        residue = _residue(same, chosen, bits)
        start = _spectral_start(kernel, gram, residue)
        better = _improved(kernel, start, residue)
        start_bit, better_bit = signs(kernel @ start), signs(kernel @ better)
        objectives = [-float(bit @ residue(bit)) for bit in (start_bit, better_bit)]
        improves = objectives[1] < objectives[0]
        coefficients.append(better if improves else start)
        chosen = np.column_stack([chosen, better_bit if improves else start_bit])
        spectral.append(objectives[0])
        final.append(min(objectives))
    return np.column_stack(coefficients), spectral, final


def _residue(same: Affinity, chosen: np.ndarray, bits: int) -> Residue:
    """Return the product with R, `same` being S."""
    return lambda v: bits * same.times(v) - chosen @ (chosen.T @ v)


def _spectral_start(kernel: np.ndarray, gram: np.ndarray, residue: Residue) -> np.ndarray:
    """Return the a that maximizes (Ka)'R(Ka) subject to (Ka)'(Ka) = l (eq. 12)."""
    weighted = kernel.T @ residue(kernel)
    last = len(gram) - 1
    start = eigh((weighted + weighted.T) / 2, gram, subset_by_index=[last, last])[1][:, 0]
    return start * np.sqrt(len(kernel)) / np.linalg.norm(kernel @ start)


def _improved(kernel: np.ndarray, start: np.ndarray, residue: Residue) -> np.ndarray:
    """Return the coefficients that descent on the smoothed objective reaches from `start`."""
    from scipy.optimize import minimize

    smoothed = _smoothed(kernel, residue)
    options = {"maxiter": ITERATIONS}
    return minimize(smoothed, start, jac=True, method="L-BFGS-B", options=options).x


def _smoothed(kernel: np.ndarray, residue: Residue) -> Smoothed:
    """Return the objective with a smoothed sign, which gives its gradient, too (eqs. 13, 14)."""

    def objective(a: np.ndarray) -> tuple[float, np.ndarray]:
        bit = np.tanh(kernel @ a / 2)  # phi
        weighted = residue(bit)
        return -float(bit @ weighted), -kernel.T @ (weighted * (1 - bit * bit))

    return objective
