import numpy as np
import pytest

from eval.baselines.euclidean import measure
from eval.codes import pack_latent
from eval.metrics import evaluate_queries, precision_cutoffs
from eval.summary import graded_content


@pytest.fixture(scope="module")
def bits():
    random = np.random.default_rng(0)
    labels = [random.integers(4, size=count).astype(np.int32) for count in (50, 700)]
    centres = random.random((4, 12))
    return [(0.6 * centres[of] + 0.4 * random.random((len(of), 12)) > 0.5, of) for of in labels]


def test_on_bits_it_measures_what_the_evaluator_of_codes_does(bits):
    (query, query_labels), (database, database_labels) = bits
    k = 100
    ours = measure(
        query.astype(np.float32), query_labels, database.astype(np.float32), database_labels, k
    )
    figures = evaluate_queries(
        pack_latent(query), query_labels, pack_latent(database), database_labels, 12, k
    )
    for name, of_codes in (("map", figures.ap), ("map_at_100", figures.ap_at_k)):
        stable, expected, worst, best = of_codes.mean(axis=0)
        assert ours[name] == pytest.approx(stable, abs=1e-12)
        assert ours["ties"][name] == pytest.approx(
            {"expected": expected, "worst": worst, "best": best}, abs=1e-12
        )
        assert worst < best
    curve = ours["precision_at_k"]
    np.testing.assert_allclose(
        np.stack([curve[of] for of in ("precision", "expected", "worst", "best")], axis=1),
        figures.precision.mean(axis=0),
        atol=1e-12,
    )


def test_against_sorting_by_distance():
    random = np.random.default_rng(1)
    query, database = (random.random((n, 5)).astype(np.float32) for n in (7, 90))
    labels = [random.integers(3, size=n).astype(np.int32) for n in (7, 90)]
    done = []
    ours = measure(query, labels[0], database, labels[1], 10, done.append)
    assert sum(done) == 7
    expected = []
    for row, label in zip(query, labels[0], strict=True):
        order = np.argsort(np.linalg.norm(database - row, axis=1), kind="stable")
        right = (labels[1][order] == label).nonzero()[0]
        expected.append(np.mean([(i + 1) / (rank + 1) for i, rank in enumerate(right)]))
    assert ours["map"] == pytest.approx(np.mean(expected))
    assert ours["ties"]["map"]["worst"] == pytest.approx(ours["ties"]["map"]["best"])


def test_on_bits_of_several_labels_it_measures_what_the_evaluator_of_codes_does(bits):
    random = np.random.default_rng(2)
    labels = [(random.random((rows, 5)) < 0.3).astype(np.uint8) for rows in (20, 700)]
    (query, _), (database, _) = bits
    query = query[:20]
    ours = measure(query.astype(np.float32), labels[0], database.astype(np.float32), labels[1], 100)
    figures = evaluate_queries(
        pack_latent(query), labels[0], pack_latent(database), labels[1], 12, 100
    )
    assert ours["map"] == pytest.approx(figures.ap[:, 0].mean(), abs=1e-12)
    theirs = graded_content(figures.graded, precision_cutoffs(100, 700), 100)
    assert ours["graded"].keys() == theirs.keys()
    for name in ("weighted_map", "weighted_map_at_k"):
        assert ours["graded"][name] == pytest.approx(theirs[name], abs=1e-12)
        assert ours["graded"]["ties"][name] == pytest.approx(theirs["ties"][name], abs=1e-12)
    for name in ("ndcg_at_k", "acg_at_k"):
        for of, values in theirs[name].items():
            np.testing.assert_allclose(ours["graded"][name][of], values, atol=1e-12)
