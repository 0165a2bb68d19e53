"""What the benchmarks measure is right: their times are worth nothing otherwise."""

import os

import numpy as np
import pytest

from eval.bench import cost
from eval.bench import evaluator as bench_eval
from eval.bench.common import clustered_codes, in_child
from eval.hamming import code_words, distinct_codes
from eval.metrics import evaluate_queries


@pytest.fixture(scope="module")
def codes():
    query = clustered_codes(40, bench_eval.BITS, bench_eval.CLASSES, seed=2)
    database = clustered_codes(2000, bench_eval.BITS, bench_eval.CLASSES, seed=1)
    return (*query, *database)


def test_codes_are_the_same_for_a_seed_and_tie_heavily(codes):
    again = clustered_codes(2000, bench_eval.BITS, bench_eval.CLASSES, seed=1)
    np.testing.assert_array_equal(codes[2], again[0])
    np.testing.assert_array_equal(codes[3], again[1])
    assert len(distinct_codes(codes[2])[0]) < 1500


@pytest.mark.parametrize(
    "row",
    [
        bench_eval.this_evaluator,
        bench_eval.stable_argsort,
        bench_eval.faiss_counting,
        bench_eval.faiss_heap,
        bench_eval.usual_loop,
        bench_eval.scikit_learn,
    ],
)
def test_each_row_measures_map_up_to_the_order_of_ties(codes, row):
    stable, _, worst, best = evaluate_queries(*codes, bench_eval.BITS, 1000).ap.mean(axis=0)
    value = row(*codes)
    assert worst - 1e-12 <= value <= best + 1e-12
    if row in (bench_eval.stable_argsort, bench_eval.this_evaluator):
        assert value == pytest.approx(stable, abs=1e-12)


def test_both_rows_measure_the_same_ndcg(codes):
    query_codes, query_labels, database_codes, database_labels = codes
    several = (
        *(query_codes, bench_eval.with_further(query_labels, 4)),
        *(database_codes, bench_eval.with_further(database_labels, 3)),
    )
    ours = bench_eval.graded_evaluator(*several)
    assert bench_eval.scikit_learn_ndcg(*several) == pytest.approx(ours, abs=1e-12)
    assert 0 < ours < 1


def test_scan_finds_the_nearest(codes):
    query, database = codes[0], codes[2]
    found = cost._nearest_distances(np.ascontiguousarray(code_words(query).T), code_words(database))
    unequal = np.unpackbits(query[:, None] ^ database, axis=2).sum(axis=2)
    assert found.tolist() == unequal.min(axis=1).tolist()


def test_bits_are_counted_in_every_round():
    words = np.array([0, 1, 3], np.uint64)
    assert cost._count_bits(words, 2) == (0 + 1 + 2) + (1 + 0 + 1)


def test_child_reports_its_result_and_its_own_peak():
    result, small = in_child(os.getpid)
    _, large = in_child(np.ones, 20_000_000)
    assert result != os.getpid()
    assert large > small + 150


def test_costs_of_one_distance_are_positive_and_named(monkeypatch):
    for name, size in (("QUERIES", 32), ("DATABASE", 4000), ("FLOAT_QUERIES", 4)):
        monkeypatch.setattr(cost, name, size)
    monkeypatch.setattr(cost, "FLOAT_DATABASE", 50)
    monkeypatch.setattr(cost, "REPEATS", 2)
    rows = cost.distance_cost((64,))
    assert [row["name"] for row in rows] == [
        "hamming-64",
        "euclidean-4096",
        "euclidean-4096-product",
    ]
    assert all(value > 0 for name, value in rows[0].items() if name not in ("name", "title"))
    assert rows[1]["all_cores"] > 0 and rows[1]["one_core"] is rows[1]["faiss_one_core"] is None
