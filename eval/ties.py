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
def prefix_sums(terms: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0 to n of `terms` (n,), (2, n + 1) float64.

    Row 0 is rounded, row 1 what rounding lost: `span`, a difference of both rows, added, is exact
    to the last digit however close the arguments.
    """
    sums = np.zeros((2, len(terms) + 1), np.float64)
    total = 0.0
    lost = 0.0
    for i in range(1, len(terms) + 1):
        term = terms[i - 1]
        grown = total + term
        kept = grown - total
        lost += (total - (grown - kept)) + (term - kept)
        total = grown
        sums[0, i] = total
        sums[1, i] = lost
    return sums


@compiled
def harmonic_numbers(count: int) -> np.ndarray:
    """Return H(0) to H(count) as `prefix_sums` does, (2, count + 1) float64."""
    return prefix_sums(1.0 / np.arange(1, count + 1))


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
            expected += expected_sum(before, hits, n, r, 1.0, n, harmonic)
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
        figures[0, q, 0] = expected_mean(before, hits, hits, n, r, 1.0, m, expected, harmonic)
        figures[0, q, 1] = _worst_mean(before, hits, m, fewest, most, worst, harmonic)
        figures[0, q, 2] = _best_mean(before, hits, fewest, most, best, harmonic)
        expected += expected_sum(before, hits, n, r, 1.0, m, harmonic)
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
def expected_mean(
    before: int,
    hits: int,
    gained: float,
    n: int,
    r: int,
    grade: float,
    m: int,
    sum_before: float,
    harmonic: np.ndarray,
) -> float:
    """Return the expected AP where it divides by the relevant rows among the first k.

    That number is hits + x, where x, the relevant rows on the first m places of the cut group,
    is hypergeometric; given x, all orders of those m places are equally likely. Weights run
    outwards from the mode by the ratio of neighbours, until they no longer count. gained, grade:
    as in `expected_sum`.
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
        total += weight * mean_of(
            sum_before + expected_sum(before, gained, m, x, grade, m, harmonic), hits + x
        )
        weight *= (r - x) * (m - x) / ((x + 1) * (n - r - m + x + 1))
        x += 1
    x = mode
    weight = x * (n - r - m + x) / ((r - x + 1) * (m - x + 1))
    while weight > 1e-20:
        x -= 1
        weights += weight
        total += weight * mean_of(
            sum_before + expected_sum(before, gained, m, x, grade, m, harmonic), hits + x
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
        mean = mean_of(sum_before + _last_places_sum(before, hits, m, x, harmonic), hits + x)
        following = (hits + 1) / (before + m - x) + span(before + m - x, before + m, harmonic)
        if following >= mean:
            most = x
        else:
            fewest = x + 1
    return mean_of(sum_before + _last_places_sum(before, hits, m, fewest, harmonic), hits + fewest)


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
        mean_of(sum_before + _first_places_sum(before, hits, fewest, harmonic), hits + fewest),
        mean_of(sum_before + _first_places_sum(before, hits, most, harmonic), hits + most),
    )


@compiled
def expected_sum(
    before: int,
    gained: float,
    n: int,
    r: int,
    grade: float,
    m: int,
    harmonic: np.ndarray,
) -> float:
    """Return the expected sum of gains / rank at the relevant ranks of a group's first m places.

    The gains up to a rank are `gained`, those before the group, and those of its rows, `grade` on
    average over the r relevant ones; with 1 for each relevant row, gains / rank is precision. Place
    i is relevant with probability r/n; its row has `grade`, and each of the i - 1 places before it
    is then relevant with probability (r - 1)/(n - 1), of `grade`, too: by symmetry no grade goes
    with any place.
    """
    if r == 0:
        return 0.0
    share = (r - 1) / (n - 1) if n > 1 else 0.0
    at_start = gained + grade - grade * share * (before + 1)
    return r / n * (at_start * span(before, before + m, harmonic) + grade * share * m)


@compiled
def _first_places_sum(before: int, hits: int, x: int, harmonic: np.ndarray) -> float:
    """Return the sum of (R + i)/(N + i) over i = 1..x: the first x places are relevant."""
    return x + (hits - before) * span(before, before + x, harmonic)


@compiled
def _last_places_sum(before: int, hits: int, m: int, x: int, harmonic: np.ndarray) -> float:
    """Return the sum of (R + i)/(N + m - x + i) over i = 1..x: the last x of m are relevant."""
    return x + (hits - before - m + x) * span(before + m - x, before + m, harmonic)


@compiled
def span(start: int, stop: int, sums: np.ndarray) -> float:
    """Return the sum of the terms start + 1 to stop, of `prefix_sums`."""
    return (sums[0, stop] - sums[0, start]) + (sums[1, stop] - sums[1, start])


@compiled
def mean_of(precision_sum: float, count: int) -> float:
    return precision_sum / count if count > 0 else 0.0
