"""Stage 1 of CNNH: a code for each training picture, from the labels alone.

Xia, Pan, Lai, Liu and Yan, "Supervised Hashing for Image Retrieval via Image Representation
Learning", AAAI 2014. S is n x n, 1 where two pictures are of one class and -1 elsewhere; its
factorization, equation (1) there,

    minimize ||S - H H' / q||^2 (Frobenius) over H, n x q, each entry in [-1, 1],

goes by coordinate descent in random order, each entry by a step of Newton's method that is cut at
the bounds (Algorithm 1). With L = H H' - q S and an entry x = H_ij, the objective times q^2 changes
by a polynomial of the step d,

    f(d) = g d + c d^2 + 4 x d^3 + d^4,   g = 4 L_i. H_.j,   c = 2 (H_.j' H_.j + x^2 + L_ii),

whose derivatives at 0, g and 2 c, are the paper's. Beyond the paper, a step that would raise the
objective is halved until it does not, so that it falls at every step.

S is never made: S = 2 Y Y' - 1 with Y the n x C indicators of the classes, so that S_i. H_.j comes
from the sums of H_.j over each class, and H H' from the q x q matrix H' H. A step costs O(q + C)
operations and all pictures take part, where the paper took a sample of 5,000.
"""

from collections.abc import Iterator

import numpy as np

from eval.compiled import compiled

SWEEPS = 10  # over all entries, at most
FALL = 1e-6  # of the objective in a sweep; the last one lowers it by less than so much


def approximate_codes(
    labels: np.ndarray, bits: int, seed: int
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield (H, objective) at the random start, and after each of at most SWEEPS sweeps.

    labels: (n,) integers from 0 on. H: (n, bits) float64 in [-1, 1], the same array each time; its
    signs are the codes. objective: ||S - H H' / q||^2 / n^2, the mean square over all pairs.
    """
    random = np.random.RandomState(seed)
    labels = np.ascontiguousarray(labels, np.int64)
    codes = random.uniform(-1, 1, (len(labels), bits))
    sums = np.zeros((labels.max() + 1, bits))
    np.add.at(sums, labels, codes)
    products = np.zeros((bits, bits))
    add_products(codes, products)
    before, now = np.inf, objective(len(labels), sums, products)
    yield codes, now
    for _ in range(SWEEPS):
        if before - now < FALL:
            return
        sweep(codes, labels, sums, products, random.permutation(codes.size))
        before, now = now, objective(len(labels), sums, products)
        yield codes, now


def objective(pictures: int, sums: np.ndarray, products: np.ndarray) -> float:
    """Return ||S - H H' / q||^2 / n^2 by the classes' sums of H and by H' H."""
    bits = len(products)
    along = 2 * np.square(sums).sum() - np.square(sums.sum(axis=0)).sum()  # tr(H' S H)
    return float(1 + (np.square(products).sum() / bits - 2 * along) / bits / pictures**2)


@compiled
def add_products(codes: np.ndarray, products: np.ndarray) -> None:
    """Add H' H to products; in a fixed order, so that every machine has the same codes."""
    for row in codes:
        for j in range(len(row)):
            for k in range(len(row)):
                products[j, k] += row[j] * row[k]


@compiled
def sweep(
    codes: np.ndarray,
    labels: np.ndarray,
    sums: np.ndarray,
    products: np.ndarray,
    order: np.ndarray,
) -> None:
    """Make a step of each entry of H, in place, in an order of places in H read by rows.

    sums: (C, q), H summed over the pictures of each class. products: H' H. Both follow H.
    """
    bits = codes.shape[1]
    for place in order:
        i, j = place // bits, place % bits
        code, label, x = codes[i], labels[i], codes[i, j]
        total = 0.0
        for each in range(len(sums)):
            total += sums[each, j]
        along, length = 0.0, 0.0  # H_i. (H' H)_.j and H_i. H_i.'
        for k in range(bits):
            along += code[k] * products[k, j]
            length += code[k] * code[k]
        first = 4 * (along - bits * (2 * sums[label, j] - total))
        half_second = 2 * (products[j, j] + x * x + length - bits)
        step = -2.0 if first > 0 else 2.0  # to a bound, where the curve opens downwards
        if half_second > 0:
            step = -first / (2 * half_second)
        step = min(max(step, -1 - x), 1 - x)
        while step * (first + step * (half_second + step * (4 * x + step))) > 0:
            step /= 2
        code[j] = x + step
        sums[label, j] += step
        for k in range(bits):
            if k != j:
                products[k, j] += step * code[k]
                products[j, k] = products[k, j]
        products[j, j] += step * (2 * x + step)
