from itertools import product

import numpy as np
import pytest

from eval.ties import average_precision_under_ties, harmonic_numbers, hits_under_ties
from tests.eval import oracle

# Rows and relevant rows at each distance, for lists short enough to enumerate every order.
SMALL_LISTS = [
    ((3,), (1,)),
    ((4,), (2,)),
    ((6,), (3,)),
    ((6,), (0,)),
    ((5,), (5,)),
    ((1, 5), (0, 2)),
    ((1, 5), (1, 2)),
    ((2, 4), (1, 1)),
    ((3, 0, 4), (1, 0, 2)),
    ((1, 1, 5), (1, 0, 4)),
    ((2, 3, 2), (1, 1, 2)),
    ((4, 4), (0, 3)),
    ((4, 4), (4, 1)),
]


def as_arrays(counts, relevant_counts):
    return np.array([counts], np.int64), np.array([relevant_counts], np.int64)


@pytest.mark.parametrize(("counts", "relevant_counts"), SMALL_LISTS)
def test_equals_enumeration_of_all_orders(counts, relevant_counts):
    groups = [[1] * r + [0] * (n - r) for n, r in zip(counts, relevant_counts, strict=True)]
    rows = sum(counts)
    arrays = as_arrays(counts, relevant_counts)
    for k in range(1, rows + 1):
        figures = average_precision_under_ties(*arrays, k, harmonic_numbers(rows))
        for convention, trec in enumerate((False, True)):
            enumerated = oracle.over_tie_orders(
                groups, lambda order, k=k, trec=trec: oracle.average_precision(order, k, trec)
            )
            np.testing.assert_allclose(
                figures[convention, 0], np.array(enumerated, float), rtol=0, atol=1e-12
            )
        hits = hits_under_ties(*arrays, np.array([k]))
        enumerated = oracle.over_tie_orders(groups, lambda order, k=k: sum(order[:k]))
        np.testing.assert_allclose(hits[0, 0], enumerated, rtol=0, atol=1e-12)


def test_worst_and_best_of_a_cut_group_equal_a_search_over_all_placements():
    # Given the relevant rows inside the cut, the first or the last places are the extremes
    # (shown by the enumeration above); how many are inside is searched here, for longer lists.
    for n, r, before, hits in product((9, 12), (1, 4, 8), (0, 3, 20), (0, 1, 3)):
        for m in range(1, n + 1):
            head = [1] * hits + [0] * (before - hits) if hits <= before else None
            if head is None:
                continue
            arrays = as_arrays([1] * before + [n], head + [r])
            figures = average_precision_under_ties(
                *arrays, before + m, harmonic_numbers(before + n)
            )
            inside = range(max(0, m - (n - r)), min(m, r) + 1)
            first = [
                oracle.average_precision(head + [1] * x + [0] * (m - x), before + m) for x in inside
            ]
            last = [
                oracle.average_precision(head + [0] * (m - x) + [1] * x, before + m) for x in inside
            ]
            assert figures[0, 0, 1] == pytest.approx(float(min(last)), abs=1e-12)
            assert figures[0, 0, 2] == pytest.approx(float(max(first)), abs=1e-12)


def test_worst_order_can_leave_an_intermediate_number_inside_the_cut():
    # One relevant row among four ranks, then forty tied rows, half relevant, of which twenty are
    # among the first k: the worst order has neither the fewest nor the most inside.
    counts, relevant_counts = [1] * 4 + [40], [1, 0, 0, 0, 20]
    figures = average_precision_under_ties(
        *as_arrays(counts, relevant_counts), 24, harmonic_numbers(44)
    )
    head = [1, 0, 0, 0]
    last = [oracle.average_precision(head + [0] * (20 - x) + [1] * x, 24) for x in range(21)]
    assert min(last) < min(last[0], last[-1])
    assert figures[0, 0, 1] == pytest.approx(float(min(last)), abs=1e-12)


def test_expected_value_of_long_lists_equals_sampled_orders():
    random = np.random.default_rng(0)
    counts, relevant_counts = [3, 400, 700], [2, 100, 350]
    k = 600
    figures = average_precision_under_ties(
        *as_arrays(counts, relevant_counts), k, harmonic_numbers(sum(counts))
    )
    groups = [np.arange(n) < r for n, r in zip(counts, relevant_counts, strict=True)]
    samples = []
    for _ in range(4000):
        order = np.concatenate([random.permutation(group) for group in groups])[:k]
        ranks = np.flatnonzero(order) + 1
        sums = (np.arange(1, len(ranks) + 1) / ranks).sum()
        samples.append((sums / len(ranks), sums / sum(relevant_counts)))
    samples = np.array(samples)
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(axis=0) - figures[:, 0, 0]) < 5 * error).all()


def test_expected_value_stays_exact_far_down_a_long_list():
    # A pair of ties behind a million rows, where differences of harmonic numbers cancel.
    rows = 10**6
    arrays = as_arrays([rows, 2], [0, 2])
    figures = average_precision_under_ties(*arrays, rows + 2, harmonic_numbers(rows + 2))
    exact = (1 / (rows + 1) + 2 / (rows + 2)) / 2
    np.testing.assert_allclose(figures[:, 0], exact, rtol=0, atol=1e-15)


def test_query_without_relevant_rows_scores_zero():
    figures = average_precision_under_ties(*as_arrays([2, 3], [0, 0]), 4, harmonic_numbers(5))
    assert not figures.any()
