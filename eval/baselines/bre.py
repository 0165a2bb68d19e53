"""BRE: Kulis and Darrell, "Learning to hash with binary reconstructive embeddings", NIPS 2009.

A bit is h_p(x) = 1 where sum_q W_pq k(x_pq, x) > 0 (eq. 1), the x_pq being s rows that are drawn
for it. Sought are bits whose normalized Hamming distance d_R(i, j) = sum_p |h_p(x_i) - h_p(x_j)|
/ b (eq. 2) is near a given distance d_M over the pairs N: a small sum_N (d_M - d_R)^2 (eq. 3).
Here d_M is that of the paper's supervised case, 0 for two rows of one class and 1 for others.

One W_pq at a time is set to its optimum, the others held (section 3.1). As W_pq grows, row u's
bit changes once, at W_pq - f_p(x_u) / k(x_pq, x_u), f_p(x_u) being the sum above: between two of
these thresholds the objective is constant, and passing one changes the pairs of one row alone. So
after sorting, all of them are tried in time O(|N|), and the search is exact.

The kernel is the inner product of features that were centred and brought to unit length, as the
paper's are.
"""

import numpy as np
from tqdm import trange

from eval.baselines.training import TINY, Encode, Training, share_labels, unit_rows
from eval.compiled import compiled

ROWS = 1000  # that are learned from, as in the paper
HASH_ROWS = 50  # s
PARTNERS = 50  # pairs of each row, 5 % of the rows as in the authors' code
SWEEPS = 30  # at most; each sets every W_pq once
LEAST_FALL = 1e-3  # of the objective in a sweep, as a share: with less the search has ended
EQUAL = 1e-9  # thresholds, or objectives, that rounding alone may have made different; a share
SPREAD = 0.001  # of the first W, as in the authors' code


def learn(training: Training, bits: int, random: np.random.Generator) -> tuple[Encode, dict]:
    """Learn BRE on rows and pairs that are drawn from the features.

    Records how many there are of both, and the objective before and after each sweep.
    """
    count = len(training.features)
    drawn = random.choice(count, min(ROWS, count), replace=False)
    rows = unit_rows(training.features[drawn], training.mean)
    pairs = draw_pairs(len(rows), PARTNERS, random)
    labels = training.labels[drawn]
    wanted = 1.0 - share_labels(labels[pairs[:, 0]], labels[pairs[:, 1]])
    size = min(HASH_ROWS, len(rows))
    of_bit = np.stack([random.choice(len(rows), size, replace=False) for _ in range(bits)])
    weights = SPREAD * random.standard_normal((bits, size))
    objectives = descend(rows @ rows.T, of_bit, weights, pairs, wanted, random)
    normals = np.einsum("ps,psf->fp", weights, rows[of_bit])
    record = {"rows": len(rows), "pairs": len(pairs), "objective": objectives}
    return lambda features: unit_rows(features, training.mean) @ normals > 0, record


def draw_pairs(rows: int, partners: int, random: np.random.Generator) -> np.ndarray:
    """Return pairs (P, 2) int64 of rows, the lower first, each once: some partners of each row."""
    first = np.repeat(np.arange(rows), min(partners, rows - 1))
    second = (first + random.integers(1, rows, size=len(first))) % rows
    return np.unique(np.sort(np.stack([first, second], axis=1), axis=1), axis=0)


def descend(
    kernel: np.ndarray,
    of_bit: np.ndarray,
    weights: np.ndarray,
    pairs: np.ndarray,
    wanted: np.ndarray,
    random: np.random.Generator,
) -> list[float]:
    """Bring weights (b, s) float64 to a small objective, in place; return it by sweep.

    kernel: (N, N) float64. of_bit: (b, s) int64, the rows x_pq. pairs: (P, 2) int64; wanted: (P,)
    float64, d_M of each. The objective is eq. 3's mean over the pairs; it never rises.
    """
    bits, size = weights.shape
    sums = np.stack([kernel[:, of_bit[p]] @ weights[p] for p in range(bits)])  # f_p(x_u)
    hashed = sums > 0
    distances = np.sum(hashed[:, pairs[:, 0]] != hashed[:, pairs[:, 1]], axis=0).astype(np.int64)
    start, partner, of_pair = adjacency(pairs, len(kernel))

    def objective() -> float:
        return float(np.square(wanted - distances / bits).mean())

    objectives = [objective()]
    for _ in trange(SWEEPS, desc="BRE", unit=" sweeps", disable=None, leave=False):
        for p in random.permutation(bits):
            differ = hashed[p, pairs[:, 0]] != hashed[p, pairs[:, 1]]
            # what it adds to the objective that this bit differs in a pair, the other bits held
            gain = 1 / bits**2 - 2 * (wanted - (distances - differ) / bits) / bits
            for q in random.permutation(size):
                column = kernel[:, of_bit[p, q]]
                step = line_search(sums[p], column, gain[of_pair], start, partner)[0]
                if step:
                    weights[p, q] += step
                    sums[p] += step * column
            hashed[p] = sums[p] > 0
            distances += (hashed[p, pairs[:, 0]] != hashed[p, pairs[:, 1]]).astype(int) - differ
        objectives.append(objective())
        if objectives[-2] - objectives[-1] <= LEAST_FALL * objectives[-2]:
            break
    return objectives


def adjacency(pairs: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs (P, 2) by row: start (rows + 1,), partner (2P,), place in pairs (2P,)."""
    ends = np.concatenate([pairs[:, 0], pairs[:, 1]])
    order = np.argsort(ends, kind="stable")
    start = np.searchsorted(ends[order], np.arange(rows + 1))
    partner = np.concatenate([pairs[:, 1], pairs[:, 0]])[order]
    return start, partner, order % len(pairs)


@compiled
def line_search(
    sums: np.ndarray,
    column: np.ndarray,
    gain: np.ndarray,
    start: np.ndarray,
    partner: np.ndarray,
) -> tuple[float, float]:
    """Return the best step of one weight and what it adds to the objective; 0 where none is better.

    sums, column: (N,) float64; after a step t the bits are sums + t column > 0. gain: (2P,)
    float64, what a pair adds where its bits differ. start, partner: of `adjacency`, in whose order
    gain is.
    """
    rows = len(sums)
    thresholds = np.full(rows, np.inf)
    bits = sums > 0
    for u in range(rows):
        if column[u] != 0:
            thresholds[u] = -sums[u] / column[u]
            bits[u] = column[u] < 0  # below all thresholds
            if sums[u] == 0 and bits[u]:
                thresholds[u] = -TINY  # at a step of 0 this bit has changed already
    order = np.argsort(thresholds)
    least = EQUAL * np.abs(gain).sum()
    value, now, best, step = 0.0, 0.0, np.inf, 0.0
    for place in range(rows + 1):
        low = thresholds[order[place - 1]] if place else -np.inf
        high = thresholds[order[place]] if place < rows else np.inf
        if low == np.inf:
            break
        if low < 0 <= high:
            now = value
        wide = place in (0, rows) or high == np.inf or high - low > EQUAL * (abs(low) + abs(high))
        if value < best and wide:
            best, step = value, _between(low, high)
        if high < np.inf:
            u = order[place]
            for edge in range(start[u], start[u + 1]):
                value += gain[edge] if bits[u] == bits[partner[edge]] else -gain[edge]
            bits[u] = not bits[u]
    return (step, best - now) if best < now - least else (0.0, 0.0)


@compiled
def _between(low: float, high: float) -> float:
    """Return a step between two thresholds, of which one may be infinite."""
    if low == -np.inf:
        return high - 1e-6 * (1 + abs(high))
    if high == np.inf:
        return low + 1e-6 * (1 + abs(low))
    return (low + high) / 2
