"""NDCG, ACG and weighted AP: beside a double loop, all orders of ties, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from eval.graded import discounts_of
from eval.graded_ties import graded_under_ties, weighted_ap_under_ties
from eval.metrics import ORDERS, evaluate_queries, join, precision_cutoffs
from eval.ties import harmonic_numbers, prefix_sums
from tests.eval import oracle

# Grades of the rows at each distance, for lists short enough to enumerate every order.
SMALL_LISTS = [
    [[0, 1, 2]],
    [[0, 0, 1, 3]],
    [[2, 2, 2]],
    [[0, 0, 0]],
    [[1], [0, 0, 1, 1, 3]],
    [[3, 1, 0, 0], [2, 2, 0]],
    [[0, 0], [], [1, 2, 4, 0]],
    [[0], [5, 1, 1, 0, 0]],
    [[2], [1, 1, 1, 1, 0]],
    [[0, 0, 0, 0, 1, 1, 4]],
    [[1, 2], [0, 3], [1, 0, 2]],
]


def random_rows(random, rows, bits, labels, share=0.2):
    """Codes that tie heavily, around a centre for each label, and rows of 0 and 1."""
    carried = (random.random((rows, labels)) < share).astype(np.uint8)
    centres = np.random.default_rng(bits).standard_normal((labels, bits))
    noise = 0.5 * random.standard_normal((rows, bits))
    return np.packbits(carried @ centres + noise > 0, axis=1), carried


def check_against_oracle(query, database, bits, k, excluded=None):
    figures = evaluate_queries(*query, *database, bits, k, excluded)
    codes = [np.unpackbits(split[0], axis=1, count=bits).tolist() for split in (query, database)]
    for q, labels in enumerate(query[1]):
        own = -1 if excluded is None else excluded[q]
        ranked = oracle.ranking(codes[0][q], codes[1], own)
        grades = [
            int(sum(a and b for a, b in zip(labels, database[1][row], strict=True)))
            for row, _ in ranked
        ]
        graded = figures.graded
        for name, figure in (("ndcg", oracle.ndcg), ("acg", oracle.acg)):
            expected = [float(figure(grades, cut)) for cut in precision_cutoffs(k, len(ranked))]
            found = getattr(graded, name)[q, :, 0]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=name)
        for name, cut in (("weighted_ap", len(grades)), ("weighted_ap_at_k", k)):
            expected = float(oracle.weighted_average_precision(grades, cut))
            assert getattr(graded, name)[q, 0] == pytest.approx(expected, abs=1e-12)
        assert figures.relevant[q] == sum(grade > 0 for grade in grades)
    return figures


@pytest.mark.parametrize("bits", [1, 6, 12, 70])
@pytest.mark.parametrize("k", [7, 60, 1000])
def test_equals_double_loop(bits, k):
    random = np.random.default_rng(k)
    query, database = (random_rows(random, rows, bits, 9) for rows in (8, 250))
    check_against_oracle(query, database, bits, k)


def test_leave_one_out_and_queries_without_labels():
    random = np.random.default_rng(6)
    codes, labels = random_rows(random, 80, 5, 6)
    labels[:3] = 0
    figures = check_against_oracle((codes, labels), (codes, labels), 5, 20, np.arange(80))
    assert not figures.graded.ndcg[:3].any() and not figures.graded.weighted_ap[:3].any()


def test_many_labels():
    """81 labels, as NUS-WIDE has; 1,100, since 2 to that power is no float64."""
    random = np.random.default_rng(7)
    query, database = (random_rows(random, rows, 8, 81, 0.1) for rows in (5, 200))
    check_against_oracle(query, database, 8, 50)
    codes = np.arange(4, dtype=np.uint8)[:, None]
    labels = np.tri(4, 1100, 1098, dtype=np.uint8)
    graded = evaluate_queries(codes[:1], labels[3:], codes, labels, 8, 3).graded
    assert np.isfinite(graded.ndcg).all()
    gains = 2.0 ** np.array([-1, 0, 0, 0])  # of the grades 1,099 and three times 1,100
    ideal = (gains[[1, 2, 3]] * discounts_of(3)).sum()
    assert graded.ndcg[0, 2, 0] == pytest.approx((gains[:3] * discounts_of(3)).sum() / ideal)


def test_rows_of_one_label_have_the_figures_of_one_label():
    """Each relevant row shares one label, so weighted AP is AP, and ACG is precision."""
    random = np.random.default_rng(8)
    labels = [random.integers(5, size=rows).astype(np.int32) for rows in (30, 400)]
    codes = [random.integers(64, size=(rows, 1), dtype=np.uint8) for rows in (30, 400)]
    as_rows = [np.eye(5, dtype=np.uint8)[of] for of in labels]
    one, rows = (
        evaluate_queries(codes[0], of[0], codes[1], of[1], 8, 50) for of in (labels, as_rows)
    )
    assert one.graded is None
    for name in one._fields[:-1]:
        np.testing.assert_array_equal(getattr(one, name), getattr(rows, name), err_msg=name)
    np.testing.assert_allclose(rows.graded.weighted_ap, one.ap, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows.graded.weighted_ap_at_k, one.ap_at_k, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rows.graded.acg, one.precision, rtol=0, atol=1e-12)


def counted(groups):
    """Rows of each grade at each distance, as the closed forms take them: (1, D, R + 1)."""
    highest = max(max(group, default=0) for group in groups)
    return np.array([[np.bincount(group, minlength=highest + 1) for group in groups]])


def check_all_orders(groups):
    grade_counts, rows = counted([np.array(group, int) for group in groups]), sum(map(len, groups))
    sums = prefix_sums(discounts_of(rows))
    for k in range(1, rows + 1):
        dcg, ideal, gained = graded_under_ties(grade_counts, np.array([k]), sums)
        found = {
            oracle.ndcg: dcg[0, 0] / (ideal[0, 0] or 1),
            oracle.acg: gained[0, 0] / k,
            oracle.weighted_average_precision: weighted_ap_under_ties(
                grade_counts, k, harmonic_numbers(rows)
            )[0],
        }
        for figure, values in found.items():
            enumerated = oracle.over_tie_orders(groups, lambda order, k=k, of=figure: of(order, k))
            np.testing.assert_allclose(
                values, np.array(enumerated, float), rtol=0, atol=1e-12, err_msg=figure.__name__
            )


@pytest.mark.parametrize("groups", SMALL_LISTS)
def test_tie_figures_equal_enumeration_of_all_orders(groups):
    check_all_orders(groups)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=3).filter(
        lambda groups: 1 <= sum(map(len, groups)) <= 6
    )
)
def test_tie_figures_of_any_list_equal_enumeration(groups):
    check_all_orders(groups)


def test_best_order_can_leave_an_intermediate_number_inside_the_cut():
    """Behind a row of grade 1, of three places, one relevant row is least, three are most."""
    groups = [[1], [3, 1, 1, 0, 0]]
    inside = [[1, 3, 0, 0], [1, 3, 1, 0], [1, 3, 1, 1]]
    values = [float(oracle.weighted_average_precision(grades, 4)) for grades in inside]
    assert max(values) == values[1] > max(values[0], values[2])
    found = weighted_ap_under_ties(counted(groups), 4, harmonic_numbers(6))[0]
    assert found[2] == pytest.approx(values[1], abs=1e-12)


def test_worst_and_best_of_longer_cut_groups_equal_a_search_over_all_numbers_inside():
    random = np.random.default_rng(2)
    for _ in range(60):
        head = random.integers(3, size=random.integers(8)).tolist()
        group = sorted(random.integers(4, size=24).tolist())
        irrelevant, relevant = group.count(0), [grade for grade in group if grade]
        m = int(random.integers(1, 25))
        inside = range(max(0, m - irrelevant), min(m, len(relevant)) + 1)
        worst = [head + [0] * (m - x) + relevant[:x] for x in inside]
        best = [head + relevant[::-1][:x] + [0] * (m - x) for x in inside]
        grade_counts = counted([*([grade] for grade in head), group])
        k = len(head) + m
        found = weighted_ap_under_ties(grade_counts, k, harmonic_numbers(len(head) + 24))[0]
        for value, extreme, lists in ((found[1], min, worst), (found[2], max, best)):
            values = [oracle.weighted_average_precision(grades, k) for grades in lists]
            assert value == pytest.approx(float(extreme(values)), abs=1e-12)


def test_tie_figures_enclose_the_stable_order():
    random = np.random.default_rng(9)
    query, database = (random_rows(random, rows, 6, 8) for rows in (100, 700))
    graded = evaluate_queries(*query, *database, 6, 90).graded
    for figure in graded:
        stable, expected, worst, best = np.moveaxis(figure, -1, 0)
        for value in (stable, expected):
            assert (worst <= value + 1e-12).all() and (value <= best + 1e-12).all()
        assert (worst < best).any()


def test_scikit_learn_agrees_where_its_definitions_do():
    """Its NDCG averages over ties; its AP is ours of a ranking without any."""
    random = np.random.default_rng(10)
    query, database = (random_rows(random, rows, 12, 8) for rows in (20, 300))
    figures = evaluate_queries(*query, *database, 12, 100)
    signs = [np.unpackbits(split[0], axis=1, count=12) * 2.0 - 1 for split in (query, database)]
    scores = signs[0] @ signs[1].T
    grades = query[1].astype(int) @ database[1].T
    expected = ORDERS.index("expected")
    for c, cut in enumerate(precision_cutoffs(100, 300)):
        theirs = [
            ndcg_score(2.0 ** row[None] - 1, score[None], k=cut)
            for row, score in zip(grades, scores, strict=True)
        ]
        np.testing.assert_allclose(figures.graded.ndcg[:, c, expected], theirs, rtol=0, atol=1e-12)
    codes = np.array([0, 1, 3, 7, 15, 31, 63, 127, 255], np.uint8)[:, None]  # distances 0 to 8
    labels = (random.random((9, 4)) < 0.5).astype(np.uint8)
    ones = np.ones((1, 4), np.uint8)
    ap = evaluate_queries(codes[:1], ones, codes, labels, 8, 9).ap[0]
    theirs = average_precision_score(labels.any(axis=1), -np.arange(9))
    np.testing.assert_allclose(ap, theirs, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 39))
def test_blocks_of_queries_join_bit_for_bit(seed, cut):
    random = np.random.default_rng(seed)
    (codes, labels), database = (random_rows(random, rows, 8, 5) for rows in (40, 120))
    whole = evaluate_queries(codes, labels, *database, 8, 30).graded
    parts = (slice(0, cut), slice(cut, 40))
    blocks = [evaluate_queries(codes[p], labels[p], *database, 8, 30) for p in parts]
    for array, joined in zip(whole, join(blocks).graded, strict=True):
        np.testing.assert_array_equal(array, joined)
