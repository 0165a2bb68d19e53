"""What the order of ties does to average precision and to precision at k, in closed form.

Codes at one distance from a query form a group whose order is arbitrary. The release keeps
database order; here are the expectation over all orders (McSherry and Najork, "Computing
information retrieval performance measures efficiently in the presence of tied scores", ECIR
2008) and the worst and the best order.

Notation, for one group: n rows, r of them relevant, behind N rows of which R are relevant; H is
the harmonic number. A group that k cuts has its first m places among the first k. Place i of the
group is rank N + i.
"""

import numpy as np

from eval.compiled import compiled


@compiled
def harmonic_numbers(count: int) -> np.ndarray:
    """Return H(0) to H(count), (2, count + 1) float64: row 0 rounded, row 1 what rounding lost.

    Differences of both rows, added, are exact to the last digit however close the arguments.
    """
    harmonic = np.zeros((2, count + 1), np.float64)
    total = 0.0
    lost = 0.0
    for i in range(1, count + 1):
        term = 1.0 / i
        grown = total + term
        kept = grown - total
        lost += (total - (grown - kept)) + (term - kept)
        total = grown
        harmonic[0, i] = total
        harmonic[1, i] = lost
    return harmonic


@compiled
def average_precision_under_ties(
    counts: np.ndarray,
    relevant_counts: np.ndarray,
    k: int,
    harmonic: np.ndarray,
) -> np.ndarray:
    """Return the expected, worst and best AP among the first k, over all orders of ties.

    counts, relevant_counts: (Q, K + 1) int64, rows and relevant rows at each distance.
    k: int, at least 1, at most the number of rows. harmonic: `harmonic_numbers` of that number.
    Returns (2, Q, 3) float64: [0] divides by the relevant rows among the first k (the release),
    [1] by all relevant rows (TREC). A query without relevant rows scores 0.
    """
    figures = np.zeros((2, len(counts), 3), np.float64)
    for q in range(len(counts)):
        relevant = relevant_counts[q].sum()
        if relevant == 0:
            continue
        before = 0
        hits = 0
        expected = 0.0
        worst = 0.0
        best = 0.0
        d = 0
        while before + counts[q, d] < k:
            n = counts[q, d]
            r = relevant_counts[q, d]
            expected += _expected_sum(before, hits, n, r, n, harmonic)
            worst += _last_places_sum(before, hits, n, r, harmonic)
            best += _first_places_sum(before, hits, r, harmonic)
            before += n
            hits += r
            d += 1
        n = counts[q, d]
        r = relevant_counts[q, d]
        m = k - before
        fewest = max(0, m - (n - r))
        most = min(m, r)
        figures[0, q, 0] = _expected_mean(before, hits, n, r, m, expected, harmonic)
        figures[0, q, 1] = _worst_mean(before, hits, m, fewest, most, worst, harmonic)
        figures[0, q, 2] = _best_mean(before, hits, fewest, most, best, harmonic)
        expected += _expected_sum(before, hits, n, r, m, harmonic)
        worst += _last_places_sum(before, hits, m, fewest, harmonic)
        best += _first_places_sum(before, hits, most, harmonic)
        figures[1, q, 0] = expected / relevant
        figures[1, q, 1] = worst / relevant
        figures[1, q, 2] = best / relevant
    return figures


@compiled
def hits_under_ties(
    counts: np.ndarray,
    relevant_counts: np.ndarray,
    cutoffs: np.ndarray,
) -> np.ndarray:
    """Return expected, fewest and most relevant rows among the first k, over all orders of ties.

    counts, relevant_counts: (Q, K + 1) int64. cutoffs: (C,) int64, ascending, each at most the
    number of rows. Returns (Q, C, 3) float64.
    """
    figures = np.zeros((len(counts), len(cutoffs), 3), np.float64)
    for q in range(len(counts)):
        before = 0
        hits = 0
        d = 0
        for c in range(len(cutoffs)):
            while before + counts[q, d] < cutoffs[c]:
                before += counts[q, d]
                hits += relevant_counts[q, d]
                d += 1
            n = counts[q, d]
            r = relevant_counts[q, d]
            m = cutoffs[c] - before
            figures[q, c, 0] = hits + m * r / n
            figures[q, c, 1] = hits + max(0, m - (n - r))
            figures[q, c, 2] = hits + min(m, r)
    return figures


@compiled
def _expected_mean(
    before: int,
    hits: int,
    n: int,
    r: int,
    m: int,
    sum_before: float,
    harmonic: np.ndarray,
) -> float:
    """Return the expected AP where it divides by the relevant rows among the first k.

    That number is hits + x, where x, the relevant rows on the first m places of the cut group,
    is hypergeometric; given x, all orders of those m places are equally likely. Weights run
    outwards from the mode by the ratio of neighbours, until they no longer count.
    """
    fewest = max(0, m - (n - r))
    most = min(m, r)
    mode = min(max((m + 1) * (r + 1) // (n + 2), fewest), most)
    weights = 0.0
    total = 0.0
    weight = 1.0
    x = mode
    while weight > 1e-20:
        weights += weight
        total += weight * _mean(
            sum_before + _expected_sum(before, hits, m, x, m, harmonic), hits + x
        )
        weight *= (r - x) * (m - x) / ((x + 1) * (n - r - m + x + 1))
        x += 1
    x = mode
    weight = x * (n - r - m + x) / ((r - x + 1) * (m - x + 1))
    while weight > 1e-20:
        x -= 1
        weights += weight
        total += weight * _mean(
            sum_before + _expected_sum(before, hits, m, x, m, harmonic), hits + x
        )
        weight *= x * (n - r - m + x) / ((r - x + 1) * (m - x + 1))
    return total / weights


@compiled
def _worst_mean(
    before: int,
    hits: int,
    m: int,
    fewest: int,
    most: int,
    sum_before: float,
    harmonic: np.ndarray,
) -> float:
    """Return the least AP over x relevant rows on the last of m places; it divides by hits + x.

    One more relevant row adds a term that grows with x, so the mean first falls and then rises:
    bisect for the first x whose next term is not below the mean.
    """
    while fewest < most:
        x = (fewest + most) // 2
        mean = _mean(sum_before + _last_places_sum(before, hits, m, x, harmonic), hits + x)
        following = (hits + 1) / (before + m - x) + _span(before + m - x, before + m, harmonic)
        if following >= mean:
            most = x
        else:
            fewest = x + 1
    return _mean(sum_before + _last_places_sum(before, hits, m, fewest, harmonic), hits + fewest)


@compiled
def _best_mean(
    before: int,
    hits: int,
    fewest: int,
    most: int,
    sum_before: float,
    harmonic: np.ndarray,
) -> float:
    """Return the greatest AP over x relevant rows on the first places; it divides by hits + x.

    Each further relevant row adds a precision no smaller than the one before it, so the mean
    first falls and then rises, and its greatest value is at either end.
    """
    return max(
        _mean(sum_before + _first_places_sum(before, hits, fewest, harmonic), hits + fewest),
        _mean(sum_before + _first_places_sum(before, hits, most, harmonic), hits + most),
    )


@compiled
def _expected_sum(
    before: int,
    hits: int,
    n: int,
    r: int,
    m: int,
    harmonic: np.ndarray,
) -> float:
    """Return the expected sum of the precisions at the relevant ranks of a group's first m places.

    Place i is relevant with probability r/n, and then R + 1 + (i - 1)(r - 1)/(n - 1) relevant
    rows are expected up to it.
    """
    if r == 0:
        return 0.0
    share = (r - 1) / (n - 1) if n > 1 else 0.0
    at_start = hits + 1 - share * (before + 1)
    return r / n * (at_start * _span(before, before + m, harmonic) + share * m)


@compiled
def _first_places_sum(before: int, hits: int, x: int, harmonic: np.ndarray) -> float:
    """Return the sum of (R + i)/(N + i) over i = 1..x: the first x places are relevant."""
    return x + (hits - before) * _span(before, before + x, harmonic)


@compiled
def _last_places_sum(before: int, hits: int, m: int, x: int, harmonic: np.ndarray) -> float:
    """Return the sum of (R + i)/(N + m - x + i) over i = 1..x: the last x of m are relevant."""
    return x + (hits - before - m + x) * _span(before + m - x, before + m, harmonic)


@compiled
def _span(start: int, stop: int, harmonic: np.ndarray) -> float:
    """Return H(stop) - H(start)."""
    return (harmonic[0, stop] - harmonic[0, start]) + (harmonic[1, stop] - harmonic[1, start])


@compiled
def _mean(precision_sum: float, count: int) -> float:
    return precision_sum / count if count > 0 else 0.0
