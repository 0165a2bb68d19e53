import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics import evaluate_queries, join, precision_cutoffs
from eval.summary import mean
from tests.eval import oracle


def random_codes(random, rows, bits, classes, spread):
    """Bits (rows, bits) and labels; codes crowd around one centre a class, so that many tie."""
    centres = np.random.default_rng(bits).random((classes, bits)) < 0.5
    labels = random.integers(classes, size=rows).astype(np.int32)
    return centres[labels] ^ (random.random((rows, bits)) < spread), labels


def evaluate(query_bits, query_labels, database_bits, database_labels, k, excluded=None):
    return evaluate_queries(
        np.packbits(query_bits, axis=1),
        query_labels,
        np.packbits(database_bits, axis=1),
        database_labels,
        query_bits.shape[1],
        k,
        excluded,
    )


def check_against_oracle(query_bits, query_labels, database_bits, database_labels, k, excluded):
    figures = evaluate(query_bits, query_labels, database_bits, database_labels, k, excluded)
    bits = query_bits.shape[1]
    pooled = np.zeros((2, bits + 1), int)
    for q, label in enumerate(query_labels):
        own = -1 if excluded is None else excluded[q]
        ranked = oracle.ranking(query_bits[q].tolist(), database_bits.tolist(), own)
        if query_labels.ndim == 1:
            relevance = [int(database_labels[row] == label) for row, _ in ranked]
        else:
            relevance = [int(any(database_labels[row] & label)) for row, _ in ranked]
        close = [hit for hit, (_, distance) in zip(relevance, ranked, strict=True) if distance < 3]
        for hit, (_, distance) in zip(relevance, ranked, strict=True):
            pooled[:, distance] += (1, hit)
        cutoffs = precision_cutoffs(k, len(ranked))
        assert figures.relevant[q] == sum(relevance)
        expected = {
            "ap": oracle.average_precision(relevance, len(ranked)),
            "ap_at_k": oracle.average_precision(relevance, k),
            "ap_at_k_trec": oracle.average_precision(relevance, k, trec=True),
        }
        for name, value in expected.items():
            assert getattr(figures, name)[q, 0] == pytest.approx(float(value), abs=1e-12), name
        np.testing.assert_allclose(
            figures.precision[q, :, 0],
            [float(oracle.precision(relevance, cutoff)) for cutoff in cutoffs],
            rtol=0,
            atol=1e-12,
        )
        assert figures.within_radius[q].tolist() == [len(close), sum(close)]
    assert figures.pooled.tolist() == pooled.tolist()
    return figures


@pytest.mark.parametrize("bits", [1, 8, 12, 48, 64, 65, 130])
@pytest.mark.parametrize("k", [7, 60, 200, 1000])
def test_equals_double_loop(bits, k):
    # 300 rows of 5 classes: k is below, about at and above the number of relevant rows, and
    # beyond the database.
    random = np.random.default_rng(k)
    query = random_codes(random, 12, bits, 5, 0.1)
    database = random_codes(random, 300, bits, 5, 0.1)
    check_against_oracle(*query, *database, k, None)


def test_k_at_the_number_of_relevant_rows():
    random = np.random.default_rng(3)
    query_bits, query_labels = random_codes(random, 6, 12, 2, 0.2)
    database_bits, database_labels = random_codes(random, 100, 12, 2, 0.2)
    for relevant in np.bincount(database_labels):
        for k in (relevant - 1, relevant, relevant + 1):
            check_against_oracle(
                query_bits, query_labels, database_bits, database_labels, int(k), None
            )


def test_chunks_of_a_large_database():
    random = np.random.default_rng(4)
    query = random_codes(random, 3, 24, 3, 0.15)
    database = random_codes(random, 5000, 24, 3, 0.15)
    check_against_oracle(*query, *database, 1000, np.array([0, 2047, 2048]))


def test_several_labels():
    random = np.random.default_rng(5)
    query_bits, database_bits = random.random((9, 10)) < 0.5, random.random((150, 10)) < 0.5
    query_labels = (random.random((9, 6)) < 0.2).astype(np.uint8)
    query_labels[0] = 0
    database_labels = (random.random((150, 6)) < 0.2).astype(np.uint8)
    check_against_oracle(query_bits, query_labels, database_bits, database_labels, 40, None)


def test_leave_one_out():
    random = np.random.default_rng(6)
    bits, labels = random_codes(random, 80, 10, 3, 0.2)
    own = np.arange(80)
    figures = check_against_oracle(bits, labels, bits, labels, 20, own)
    assert figures.relevant.tolist() == (np.bincount(labels)[labels] - 1).tolist()


def test_one_query_one_row_one_bit():
    query = np.array([[True]])
    for label, ap in ((0, 1.0), (1, 0.0)):
        figures = evaluate(query, np.array([0], np.int32), query, np.array([label], np.int32), 5)
        assert figures.ap.tolist() == figures.ap_at_k.tolist() == [[ap] * 4]


def test_all_rows_relevant():
    random = np.random.default_rng(7)
    query_bits, database_bits = random.random((4, 16)) < 0.5, random.random((50, 16)) < 0.5
    figures = evaluate(query_bits, np.zeros(4, np.int32), database_bits, np.zeros(50, np.int32), 10)
    np.testing.assert_allclose(figures.ap, 1, atol=1e-12)
    np.testing.assert_allclose(figures.ap_at_k, 1, atol=1e-12)
    np.testing.assert_allclose(figures.precision, 1, atol=1e-12)


def test_tie_figures_enclose_the_stable_order():
    random = np.random.default_rng(8)
    query = random_codes(random, 200, 10, 4, 0.2)
    database = random_codes(random, 700, 10, 4, 0.2)
    figures = evaluate(*query, *database, 90)
    for ap in (figures.ap, figures.ap_at_k, figures.ap_at_k_trec):
        stable, expected, worst, best = ap.T
        for value in (stable, expected):
            assert (worst <= value + 1e-12).all() and (value <= best + 1e-12).all()
        assert (worst < best).any()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 20), k=st.integers(1, 120))
def test_order_of_queries_does_not_matter(seed, bits, k):
    random = np.random.default_rng(seed)
    query_bits, query_labels = random_codes(random, 40, bits, 3, 0.1)
    database = random_codes(random, 90, bits, 3, 0.1)
    order = random.permutation(40)
    figures = evaluate(query_bits, query_labels, *database, k)
    permuted = evaluate(query_bits[order], query_labels[order], *database, k)
    for name in ("ap", "ap_at_k", "ap_at_k_trec"):
        before, after = getattr(figures, name), getattr(permuted, name)
        np.testing.assert_array_equal(before[order], after)
        assert [mean(column) for column in before.T] == [mean(column) for column in after.T]
    np.testing.assert_array_equal(figures.precision[order], permuted.precision)
    np.testing.assert_array_equal(figures.pooled, permuted.pooled)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 20), k=st.integers(1, 90))
def test_precision_at_2k_of_doubled_database_is_precision_at_k(seed, bits, k):
    random = np.random.default_rng(seed)
    query = random_codes(random, 10, bits, 3, 0.1)
    database_bits, database_labels = random_codes(random, 90, bits, 3, 0.1)
    once = evaluate(*query, database_bits, database_labels, k)
    # Each row directly followed by its copy: the first 2k are the first k, twice.
    twice = evaluate(*query, database_bits.repeat(2, axis=0), database_labels.repeat(2), 2 * k)
    at_k = np.searchsorted(precision_cutoffs(k, 90), k)
    at_2k = np.searchsorted(precision_cutoffs(2 * k, 180), 2 * k)
    np.testing.assert_allclose(
        once.precision[:, at_k, 0], twice.precision[:, at_2k, 0], rtol=0, atol=1e-12
    )


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 49))
def test_blocks_of_queries_join_bit_for_bit(seed, cut):
    random = np.random.default_rng(seed)
    query_bits, query_labels = random_codes(random, 50, 12, 3, 0.1)
    database = random_codes(random, 120, 12, 3, 0.1)
    whole = evaluate(query_bits, query_labels, *database, 30)
    blocks = [
        evaluate(query_bits[part], query_labels[part], *database, 30)
        for part in (slice(0, cut), slice(cut, 50))
    ]
    for array, joined in zip(whole[:-1], join(blocks)[:-1], strict=True):
        assert array.dtype == joined.dtype
        np.testing.assert_array_equal(array, joined)
