"""What the order of ties does to graded figures, in closed form; eval/graded.py defines them.

All numbers are exact, over all orders of the rows of each group of ties (eval/ties.py has the
notation). Of a group of n rows whose r relevant ones have the mean grade g:

- A place has each of the group's rows with equal probability, so DCG and ACG are expected to get
  the group's mean gain, or grade, there (McSherry and Najork 2008). Their worst and best orders
  have the grades ascending and descending, by the rearrangement inequality, as discounts only fall;
  of a group that k cuts, the least or the greatest are among the first k.
- Weighted AP's expectation is AP's, with grades in the place of ones. Given which places are
  relevant, each order of the relevant rows on them is equally likely: the grade expected at each
  is g, whatever the other places hold, and sums of products 1(r_i > 0) r_j only need that.
- Its worst and best orders: with relevant rows of grades a_1 ... a_x, in this order, at ranks
  p_1 < ... < p_x, the group adds sum_t (G + a_1 + ... + a_t) / p_t, G the grades before it. For an
  order of the rows each term falls with p_t: relevant rows on the last places are worst, on the
  first best. For fixed places a_s counts sum_(t >= s) 1 / p_t, less the larger s is: ascending
  grades are worst, descending best. The sum of G and the group's grades is what later groups see,
  in any order, so that groups do not depend on one another. Of a group that k cuts, with x relevant
  rows inside, the x of least grade are worst inside, those of greatest best. How many those are is
  `_worst_weighted`'s and `_best_weighted`'s to find.
"""

import math

import numpy as np

from eval.compiled import compiled
from eval.ties import expected_mean, expected_sum, mean_of, span


@compiled
def gains_of(grade_counts: np.ndarray) -> np.ndarray:
    """Return the gain 2^r - 1 of each grade r of one query, (R + 1,) float64, in units of 2^top.

    grade_counts: (D, R + 1) int64. top: the highest grade that a row has. The unit, a power of two,
    changes no digit of an NDCG, and keeps any number of labels from overflowing.
    """
    top = grade_counts.shape[1] - 1
    while top > 0 and grade_counts[:, top].sum() == 0:
        top -= 1
    gains = np.zeros(grade_counts.shape[1], np.float64)
    for grade in range(1, top + 1):
        gains[grade] = math.ldexp(1.0, grade - top) - math.ldexp(1.0, -top)
    return gains


@compiled
def graded_under_ties(
    grade_counts: np.ndarray,
    cutoffs: np.ndarray,
    discount_sums: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return DCG@k and the sum of the first k grades, expected, worst and best over orders of ties.

    grade_counts: (Q, D, R + 1) int64, rows of each grade at each distance. cutoffs: (C,) int64,
    ascending, each at most the number of rows. discount_sums: `prefix_sums` of the
    discounts of that many ranks. Returns
    `dcg` (Q, C, 3), `ideal` (Q, C), the greatest DCG of any ranking, both in the units of
    `gains_of`, and `gained` (Q, C, 3), all float64.
    """
    dcg = np.zeros((len(grade_counts), len(cutoffs), 3), np.float64)
    ideal = np.zeros((len(grade_counts), len(cutoffs)), np.float64)
    gained = np.zeros((len(grade_counts), len(cutoffs), 3), np.float64)
    for q in range(len(grade_counts)):
        gains = gains_of(grade_counts[q])
        grades = np.arange(len(gains)).astype(np.float64)
        every = grade_counts[q].sum(axis=0)
        before = 0
        expected = 0.0  # DCG of the groups before
        worst = 0.0
        best = 0.0
        grades_before = 0.0
        d = 0
        for c in range(len(cutoffs)):
            n = _rows_of(grade_counts[q, d])
            while before + n < cutoffs[c]:
                group = grade_counts[q, d]
                if n > 0:
                    expected += _sum_of(group, gains) / n * span(before, before + n, discount_sums)
                    worst += _discounted(group, gains, n, before, False, discount_sums)
                    best += _discounted(group, gains, n, before, True, discount_sums)
                    grades_before += _sum_of(group, grades)
                    before += n
                d += 1
                n = _rows_of(grade_counts[q, d])
            group = grade_counts[q, d]
            m = cutoffs[c] - before
            dcg[q, c, 0] = expected + _sum_of(group, gains) / n * span(
                before, before + m, discount_sums
            )
            dcg[q, c, 1] = worst + _discounted(group, gains, m, before, False, discount_sums)
            dcg[q, c, 2] = best + _discounted(group, gains, m, before, True, discount_sums)
            gained[q, c, 0] = grades_before + m * _sum_of(group, grades) / n
            gained[q, c, 1] = grades_before + _of_places(group, grades, m, False)
            gained[q, c, 2] = grades_before + _of_places(group, grades, m, True)
            ideal[q, c] = _discounted(every, gains, cutoffs[c], 0, True, discount_sums)
    return dcg, ideal, gained


@compiled
def weighted_ap_under_ties(
    grade_counts: np.ndarray,
    k: int,
    harmonic: np.ndarray,
) -> np.ndarray:
    """Return the expected, worst and best weighted AP among the first k, over all orders of ties.

    grade_counts: (Q, D, R + 1) int64. k: int, at least 1, at most the number of rows. harmonic:
    `harmonic_numbers` of that number. Returns (Q, 3) float64; 0 without relevant rows.
    """
    figures = np.zeros((len(grade_counts), 3), np.float64)
    for q in range(len(grade_counts)):
        before = 0
        hits = 0
        gained = 0
        expected = 0.0
        worst = 0.0
        best = 0.0
        d = 0
        n = _rows_of(grade_counts[q, d])
        while before + n < k:
            group = grade_counts[q, d]
            r = n - group[0]
            expected += expected_sum(before, gained, n, r, _mean_grade(group), n, harmonic)
            worst += _run(group, r, before + n - r, gained, False, harmonic)
            best += _run(group, r, before, gained, True, harmonic)
            before += n
            hits += r
            for grade in range(1, len(group)):
                gained += grade * group[grade]
            d += 1
            n = _rows_of(grade_counts[q, d])
        group = grade_counts[q, d]
        r = n - group[0]
        m = k - before
        figures[q, 0] = expected_mean(
            before, hits, gained, n, r, _mean_grade(group), m, expected, harmonic
        )
        figures[q, 1] = _worst_weighted(group, m, before, hits, gained, worst, harmonic)
        figures[q, 2] = _best_weighted(group, m, before, hits, gained, best, harmonic)
    return figures


@compiled
def _rows_of(group: np.ndarray) -> int:
    """Return the number of rows of a group."""
    rows = 0
    for grade in range(len(group)):
        rows += group[grade]
    return rows


@compiled
def _sum_of(group: np.ndarray, values: np.ndarray) -> float:
    """Return the sum of the values that the grades of a group's rows have."""
    total = 0.0
    for grade in range(len(group)):
        total += group[grade] * values[grade]
    return total


@compiled
def _discounted(
    group: np.ndarray,
    gains: np.ndarray,
    m: int,
    before: int,
    descending: bool,
    discount_sums: np.ndarray,
) -> float:
    """Return the DCG of a group's first m places, its rows by grade."""
    total = 0.0
    filled = 0
    for i in range(len(group)):
        grade = len(group) - 1 - i if descending else i
        rows = min(group[grade], m - filled)
        start = before + filled
        total += gains[grade] * span(start, start + rows, discount_sums)
        filled += rows
    return total


@compiled
def _of_places(group: np.ndarray, grades: np.ndarray, m: int, descending: bool) -> float:
    """Return the sum of the m greatest grades of a group, or of the least."""
    total = 0.0
    filled = 0
    for i in range(len(group)):
        grade = len(group) - 1 - i if descending else i
        rows = min(group[grade], m - filled)
        total += grades[grade] * rows
        filled += rows
    return total


@compiled
def _mean_grade(group: np.ndarray) -> float:
    """Return the mean grade of a group's relevant rows, 0 where there is none."""
    relevant = 0
    gained = 0
    for grade in range(1, len(group)):
        relevant += group[grade]
        gained += grade * group[grade]
    return gained / relevant if relevant > 0 else 0.0


@compiled
def _run(
    group: np.ndarray,
    x: int,
    start: int,
    gained: int,
    descending: bool,
    harmonic: np.ndarray,
) -> float:
    """Return the sum of ACG at the ranks start + 1 ... start + x, with x relevant rows there.

    They are those of greatest grade, greatest first, or those of least grade, least first;
    `gained` are the grades before them. Of t rows of grade g, place j adds
    (G + g j)/(s + j) = g + (G - g s)/(s + j).
    """
    total = 0.0
    left = x
    for i in range(1, len(group)):
        grade = len(group) - i if descending else i
        rows = min(group[grade], left)
        total += grade * rows + (gained - grade * start) * span(start, start + rows, harmonic)
        gained += grade * rows
        start += rows
        left -= rows
    return total


@compiled
def _worst_weighted(
    group: np.ndarray,
    m: int,
    before: int,
    hits: int,
    gained: int,
    sum_before: float,
    harmonic: np.ndarray,
) -> float:
    """Return the least weighted AP over x relevant rows on the last of m places.

    It divides S(x) by hits + x. One relevant row more moves the others' grades, ascending, one
    place towards the end and puts the least grade b_1 before them: S(x + 1) - S(x) is
    (G + b_1)/(N + m - x) + sum_t b_(t+1)/(N + m - x + t), t = 1 ... x, which grows with x, by
    b_2/(N + m - x) + sum_t (b_(t+2) - b_(t+1))/(N + m - x + t) and more. So the mean first falls
    and then rises: bisect for the first x that the next one is not below.
    """
    n = _rows_of(group)
    fewest = max(0, m - group[0])
    most = min(m, n - group[0])
    while fewest < most:
        x = (fewest + most) // 2
        here = _run(group, x, before + m - x, gained, False, harmonic)
        following = _run(group, x + 1, before + m - x - 1, gained, False, harmonic)
        if mean_of(sum_before + following, hits + x + 1) >= mean_of(sum_before + here, hits + x):
            most = x
        else:
            fewest = x + 1
    total = sum_before + _run(group, fewest, before + m - fewest, gained, False, harmonic)
    return mean_of(total, hits + fewest)


@compiled
def _best_weighted(
    group: np.ndarray,
    m: int,
    before: int,
    hits: int,
    gained: int,
    sum_before: float,
    harmonic: np.ndarray,
) -> float:
    """Return the greatest weighted AP over x relevant rows on the first of m places.

    A further row's term rises as long as its grade is above the ACG there, and then falls, so that
    the mean has no simple shape: all x are looked at.
    """
    n = _rows_of(group)
    x = max(0, m - group[0])
    most = min(m, n - group[0])
    total = sum_before + _run(group, x, before, gained, True, harmonic)
    best = mean_of(total, hits + x)
    passed = 0  # rows of greater grades
    for i in range(1, len(group)):
        grade = len(group) - i
        gained += grade * min(group[grade], max(0, x - passed))
        passed += group[grade]
        while x < min(passed, most):
            x += 1
            gained += grade
            total += gained / (before + x)
            best = max(best, mean_of(total, hits + x))
    return best
